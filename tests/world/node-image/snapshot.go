package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// runSnapshot is `k3s etcd-snapshot save|ls`: real snapshots of real etcd,
// by K3s's file names.
func runSnapshot(args []string) {
	verb := "save"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("etcd-snapshot", flag.ExitOnError)
	data := flags.String("data-dir", "/var/lib/rancher/k3s", "")
	name := flags.String("name", "on-demand", "")
	flags.Parse(args)
	dir := *data + "/server/db/snapshots"
	switch verb {
	case "save":
		if err := saveSnapshot(*data+"/server", dir, *name); err != nil {
			fatal(err)
		}
	case "ls", "list":
		found, _ := filepath.Glob(dir + "/*")
		for _, path := range found {
			if info, err := os.Stat(path); err == nil {
				fmt.Printf("%s file://%s %d\n", filepath.Base(path), path, info.Size())
			}
		}
	default:
		fatalf("stand-in: etcd-snapshot %q not implemented", verb)
	}
}

func saveSnapshot(server, dir, name string) error {
	if _, err := os.Stat(server + "/db/state.db"); err == nil {
		return errors.New("etcd datastore disabled")
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	node := &etcdNode{dir: server + "/db/etcd", tls: server + "/tls"}
	client, err := node.client([]string{"https://127.0.0.1:2379"})
	if err != nil {
		return err
	}
	defer client.Close()
	snapshot, err := client.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := fmt.Sprintf("%s/%s-%s-%d", dir, name, host, time.Now().Unix())
	file, err := os.OpenFile(path+".part", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, snapshot); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(path+".part", path); err != nil {
		return err
	}
	fmt.Printf("Snapshot %s saved.\n", filepath.Base(path))
	return file.Close()
}
