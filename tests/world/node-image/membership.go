package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The annotations by which K3s takes a running server out of etcd, and tells
// that it has.
const (
	memberAnnotation  = "etcd.k3s.cattle.io/node-name"
	removeAnnotation  = "etcd.k3s.cattle.io/remove"
	removedAnnotation = "etcd.k3s.cattle.io/removed-node-name"
)

const voterCondition corev1.NodeConditionType = "EtcdIsVoter"

// tombstone marks the data of a member that was removed while it ran.
func (n *etcdNode) tombstone() string { return n.dir + "/tombstone" }

// buryTombstone sets the data of a removed member aside, so that the server
// joins anew; one with nobody to join refuses to start.
func (n *etcdNode) buryTombstone(joins bool) error {
	if _, err := os.Stat(n.tombstone()); err != nil {
		return nil
	}
	if !joins {
		return errors.New("this node has been removed from the etcd cluster: tombstone file has been detected, refusing to start without --server")
	}
	backup := fmt.Sprintf("%s-old-%d", n.dir, time.Now().Unix())
	logrus.Infof("Moving data of removed etcd member to %s", backup)
	return os.Rename(n.dir, backup)
}

// watchOwnRemoval writes the tombstone when this member was removed.
func (n *etcdNode) watchOwnRemoval(ctx context.Context) {
	for sleep(ctx, time.Second) == nil {
		if !n.server.Server.IsMemberExist(n.server.Server.MemberID()) {
			if err := writeFile(n.tombstone(), nil, 0o600); err != nil {
				logrus.Error(err)
			}
			logrus.Info("This node has been removed from the cluster - please restart k3s to rejoin the cluster")
			return
		}
	}
}

// handOver lets another voter lead. The first one may be down, and etcd waits
// for it for as long as it is let.
func (n *etcdNode) handOver(ctx context.Context) error {
	server := n.server.Server
	err := errors.New("no other member votes")
	for _, m := range server.Cluster().Members() {
		if m.IsLearner || m.ID == server.MemberID() {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
		err = server.MoveLeader(ctx, uint64(server.Lead()), uint64(m.ID))
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

// manageMembers says of each server's Node whether its member votes, and takes
// out those that are asked to go. Only the leader of etcd calls it.
func (s *server) manageMembers(ctx context.Context, nodes []corev1.Node) {
	if s.sqlite {
		return
	}
	votes := map[string]bool{}
	for _, m := range s.etcd.server.Server.Cluster().Members() {
		votes[nodeOfMember(m.Name)] = !m.IsLearner
	}
	for _, node := range nodes {
		if ask, _ := strconv.ParseBool(node.Annotations[removeAnnotation]); ask {
			s.retire(ctx, node)
			continue
		}
		if vote, ok := votes[node.Name]; ok {
			s.tellVoter(ctx, node, vote)
		}
	}
}

// retire takes a running server's member out of etcd. When that is this
// server, another one has to lead first, and does it.
func (s *server) retire(ctx context.Context, node corev1.Node) {
	name := node.Annotations[memberAnnotation]
	if node.Name == s.node {
		if err := s.etcd.handOver(ctx); err != nil {
			logrus.Errorf("failed to move leadership: %v", err)
		}
		return
	}
	logrus.Infof("Removing etcd member %s from cluster due to node annotation", name)
	if err := s.etcd.removeNode(ctx, node.Name); err != nil {
		logrus.Error(err)
		return
	}
	patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{
		memberAnnotation: nil, removeAnnotation: nil, removedAnnotation: name,
	}}})
	if _, err := s.client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		logrus.Error(err)
	}
}

func (s *server) tellVoter(ctx context.Context, node corev1.Node, vote bool) {
	status, reason, message := corev1.ConditionFalse, "MemberIsLearner", "Node has not been promoted to voting member of the etcd cluster"
	if vote {
		status, reason, message = corev1.ConditionTrue, "MemberNotLearner", "Node is a voting member of the etcd cluster"
	}
	for _, c := range node.Status.Conditions {
		if c.Type == voterCondition && c.Status == status {
			return
		}
	}
	now := metav1.Now()
	patch, _ := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{{
		Type: voterCondition, Status: status, Reason: reason, Message: message, LastHeartbeatTime: now, LastTransitionTime: now,
	}}}})
	_, err := s.client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		logrus.Warnf("Unable to set %s of %s: %v", voterCondition, node.Name, err)
	}
}
