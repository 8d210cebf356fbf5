package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sirupsen/logrus"
)

// resetFlag keeps a server whose membership was reset from being reset again
// before it has run.
func (n *etcdNode) resetFlag() string { return n.dir + "/../reset-flag" }

// checkReset refuses what K3s refuses of --cluster-reset.
func (s *server) checkReset() error {
	if !s.opts.Bool("cluster-reset") {
		return nil
	}
	if s.opts.String("server", "") != "" {
		return errors.New("invalid flag use; --server is required with --cluster-reset to be empty")
	}
	if !s.etcd.exists() {
		return errors.New("stand-in: --cluster-reset of a server without data in etcd not implemented")
	}
	if _, err := os.Stat(s.etcd.resetFlag()); err == nil {
		return fmt.Errorf("Managed etcd cluster membership was previously reset, please remove the cluster-reset flag and start k3s normally. "+
			"If you need to perform another cluster reset, you must first manually delete the file at %s", s.etcd.resetFlag())
	}
	return nil
}

// reset makes this member the only one, by etcd's own means, and ends the
// process as K3s does.
func (n *etcdNode) reset(ctx context.Context) error {
	n.alone = true
	if err := n.start(ctx, nil); err != nil {
		return err
	}
	if err := writeFile(n.resetFlag(), nil, 0o600); err != nil {
		return err
	}
	n.server.Close()
	logrus.Info("Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. " +
		"Backup and delete ${datadir}/server/db on each peer etcd server and rejoin the nodes")
	os.Exit(0)
	return nil
}

// clearReset lets the server be reset again: it has run normally.
func (n *etcdNode) clearReset() error {
	if err := os.Remove(n.resetFlag()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
