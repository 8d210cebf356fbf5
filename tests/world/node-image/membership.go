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
	addressAnnotation = "etcd.k3s.cattle.io/node-address"
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

// watchOwnRemoval writes the tombstone when this member was removed. K3s goes
// on, without etcd, until something of it ends that cannot do without.
func (n *etcdNode) watchOwnRemoval(ctx context.Context) {
	for sleep(ctx, time.Second) == nil {
		select {
		case <-n.server.Server.StopNotify(): // by those that are left
		default:
			if n.server.Server.IsMemberExist(n.server.Server.MemberID()) {
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err := writeFile(n.tombstone(), nil, 0o600); err != nil {
			logrus.Error(err)
		}
		logrus.Info("This node has been removed from the cluster - please restart k3s to rejoin the cluster")
		return
	}
}

// leadWithout has another voter lead etcd than the one that is to go. The
// first one may be down, and etcd waits for it for as long as it is let.
func (n *etcdNode) leadWithout(ctx context.Context, id uint64) error {
	server := n.server.Server
	if uint64(server.Leader()) != id {
		return nil
	}
	err := errors.New("no other member votes")
	for _, m := range server.Cluster().Members() {
		if m.IsLearner || uint64(m.ID) == id {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
		err = server.MoveLeader(ctx, id, uint64(m.ID))
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

// manageMembers takes those servers out of etcd that are deleted or asked to
// go, this one too. That one can't tell any more that it is done; whoever holds
// the Lease next finds it so.
func (s *server) manageMembers(ctx context.Context) {
	for sleep(ctx, time.Second) == nil {
		nodes, err := s.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "node-role.kubernetes.io/etcd=true"})
		if err != nil {
			continue
		}
		for _, node := range nodes.Items {
			err := s.finalize(ctx, node, memberFinalizer, func() error { return s.etcd.removeNode(ctx, node) })
			if ask, _ := strconv.ParseBool(node.Annotations[removeAnnotation]); ask && node.DeletionTimestamp == nil {
				err = errors.Join(err, s.retire(ctx, node))
			}
			if err != nil {
				logrus.Errorf("error syncing '%s': handler managed-etcd-controller: %v, requeuing", node.Name, err)
			}
		}
	}
}

// retire takes a server's member out of etcd that is asked to go.
func (s *server) retire(ctx context.Context, node corev1.Node) error {
	name := node.Annotations[memberAnnotation]
	if _, removed := node.Annotations[removedAnnotation]; removed {
		return nil
	}
	if err := s.etcd.removeNode(ctx, node); err != nil {
		return err
	}
	patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations":     map[string]any{memberAnnotation: nil, addressAnnotation: nil, removedAnnotation: name},
		"resourceVersion": node.ResourceVersion, "uid": node.UID,
	}})
	_, err := s.client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// manageLearners is what the leader of etcd does every 15 seconds, counted
// from its own start: learners that have caught up become voters, and the
// Nodes of servers tell what they are.
func (s *server) manageLearners(ctx context.Context) {
	for sleep(ctx, 15*time.Second) == nil {
		if !s.etcd.leading() {
			continue
		}
		s.etcd.promote(ctx)
		if s.ready.Load() {
			s.tellMembers(ctx)
		}
	}
}

func (s *server) tellMembers(ctx context.Context) {
	nodes, err := s.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "node-role.kubernetes.io/etcd=true"})
	if err != nil {
		logrus.Warnf("Failed to list nodes with etcd role: %v", err)
		return
	}
	members := map[string]member{}
	for _, m := range s.etcd.members() {
		members[m.Name] = m
	}
	for _, node := range nodes.Items {
		told := corev1.NodeCondition{Type: voterCondition, Status: corev1.ConditionFalse}
		m, ok := members[node.Annotations[memberAnnotation]]
		switch {
		case !ok:
			told.Reason, told.Message = "NotAMember", "Node is not a member of the etcd cluster"
		case m.IsLearner:
			told.Reason, told.Message = "MemberIsLearner", "Node has not been promoted to voting member of the etcd cluster"
		default:
			told.Status, told.Reason = corev1.ConditionTrue, "MemberNotLearner"
			told.Message = "Node is a voting member of the etcd cluster"
		}
		if ok {
			if err := s.etcd.status(ctx, m); err != nil {
				told.Status, told.Reason, told.Message = corev1.ConditionFalse, "Unhealthy", err.Error()
			}
		}
		s.tell(ctx, node, told)
	}
}

func (s *server) tell(ctx context.Context, node corev1.Node, told corev1.NodeCondition) {
	for _, c := range node.Status.Conditions {
		if c.Type == told.Type && c.Status == told.Status && c.Reason == told.Reason && c.Message == told.Message {
			return
		}
	}
	told.LastHeartbeatTime, told.LastTransitionTime = metav1.Now(), metav1.Now()
	patch, _ := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{told}}})
	_, err := s.client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		logrus.Errorf("Unable to set etcd status condition %s: %v", node.Name, err)
	}
}
