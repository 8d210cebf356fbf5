package main

import (
	"context"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The Leases in kube-system by which K3s's own controllers run on one server
// at a time. Two servers may hold one each (github.com/k3s-io/k3s/issues/10046).
const (
	coreLease = "k3s"      // Nodes' passwords and names in the cluster DNS
	etcdLease = "k3s-etcd" // the members of etcd of Nodes that are to go
)

// lead runs a controller while this server holds a Lease, with the times of
// K3s's library for it. One that can't renew it ends, as K3s does. A stop does
// not give it back: kube-apiserver is told to stop at the same time as K3s is.
func (s *server) lead(ctx context.Context, lease string, controller func(context.Context)) {
	if s.sqlite { // nobody else can be there
		controller(ctx)
		return
	}
	identity, err := os.Hostname()
	if err != nil {
		requestShutdown(err)
	}
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: "kube-system", Name: lease},
			Client:     s.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration: 45 * time.Second,
		RenewDeadline: 30 * time.Second,
		RetryPeriod:   2 * time.Second,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: controller,
			OnStoppedLeading: func() {
				if ctx.Err() == nil {
					logrus.Fatalf("leaderelection lost for %s", lease)
				}
			},
		},
	})
}
