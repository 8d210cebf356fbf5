// Command hostile is all programs of an image of nodes in which nothing
// answers as it should: the API of the cluster, the files that the operator
// reads, the commands that it runs, and the signal to stop.
//
// Usage: any arguments of K3s. With HOSTILE=api in its environment, a server's
// API answers wrongly, with HOSTILE=files there are other files than the
// operator's. It logs a line for each kind of answer.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// sane is how long it answers as K3s does, so that the cluster becomes Ready.
const sane = 12 * time.Second

var (
	began    = time.Now()
	told     sync.Map
	checked  int64
	requests int64
)

func main() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	for _, arg := range os.Args[1:] {
		// Also below the shell that the operator puts before the entry point of a node.
		if arg == "server" || arg == "agent" {
			node(arg == "server")
		}
	}
	command()
}

// command writes without end, or does nothing without end.
func command() {
	if os.Getpid()%2 == 0 {
		time.Sleep(time.Hour)
	}
	line := []byte(strings.Repeat("y", 1<<16))
	for {
		os.Stdout.Write(line)
		os.Stderr.Write(line)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// once logs a kind of answer when it is asked for.
func once(kind string) {
	if _, known := told.LoadOrStore(kind, true); !known {
		log.Printf("answered: %s", kind)
	}
}

func node(isServer bool) {
	log.SetOutput(os.Stdout)
	if isServer {
		serve()
	}
	time.Sleep(sane)
	for os.Getenv("HOSTILE") != "files" {
		time.Sleep(time.Hour)
	}
	for {
		for _, bad := range files {
			for _, path := range []string{
				"/etc/rancher/k3s/registries.yaml", "/etc/rancher/k3s/token",
				"/var/lib/rancher/k3s/agent/etc/containerd/certs.d/docker.io/hosts.toml",
			} {
				os.RemoveAll(path)
				os.MkdirAll(filepath.Dir(path), 0o755)
				bad.write(path)
			}
			once("file " + bad.kind)
			time.Sleep(2 * time.Second)
		}
		time.Sleep(10 * time.Second)
	}
}

// files are what is instead of a file.
var files = []struct {
	kind  string
	write func(path string)
}{
	{"deep", func(path string) { os.WriteFile(path, []byte(strings.Repeat("{a: ", 2000)), 0o600) }},
	{"huge", func(path string) { os.WriteFile(path, nil, 0o600); os.Truncate(path, 300<<20) }},
	{"large", func(path string) { os.WriteFile(path, []byte(strings.Repeat("- a: b\n", 260<<10)), 0o600) }},
	{"endless", func(path string) { os.Symlink("/dev/zero", path) }},
	{"pipe", func(path string) { syscall.Mkfifo(path, 0o600) }},
	{"directory", func(path string) { os.MkdirAll(path+"/a/b/c", 0o700) }},
	{"growing", func(path string) {
		go func() {
			file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			for i := 0; err == nil && i < 200; i++ {
				_, err = file.WriteString(strings.Repeat("x", 64<<10))
				time.Sleep(10 * time.Millisecond)
			}
			file.Close()
		}()
	}},
}

// serve runs the API of a cluster with an authority of its own.
func serve() {
	ca, caKey := certificate("hostile-ca", nil, nil)
	admin, adminKey := certificate("system:admin", ca, caKey)
	check(kubeconfig(ca, admin, adminKey))
	named := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		leaf, key := certificate(hello.ServerName, ca, caKey)
		return &tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: key}, nil
	}
	server := &http.Server{
		Addr: ":6443", Handler: http.HandlerFunc(answer), TLSConfig: &tls.Config{GetCertificate: named},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:     log.New(os.Stderr, "", 0),
	}
	go func() { check(server.ListenAndServeTLS("", "")) }()
}

func certificate(name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"system:masters"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), DNSNames: []string{name},
		IsCA: ca == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, parentKey := ca, caKey
	if ca == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	check(err)
	made, err := x509.ParseCertificate(der)
	check(err)
	return made, key
}

func kubeconfig(ca, admin *x509.Certificate, key *ecdsa.PrivateKey) error {
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	const path = "/etc/rancher/k3s/k3s.yaml"
	os.MkdirAll(filepath.Dir(path), 0o755)
	return os.WriteFile(path, []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: default
clusters: [{name: default, cluster: {certificate-authority-data: %s, server: "https://127.0.0.1:6443"}}]
contexts: [{name: default, context: {cluster: default, user: default}}]
users:
- name: default
  user:
    client-certificate-data: %s
    client-key-data: %s
    exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, args: [-c, id]}
`, encode("CERTIFICATE", ca.Raw), encode("CERTIFICATE", admin.Raw), encode("EC PRIVATE KEY", der))), 0o600)
}

// answer answers as the API of K3s, later in the next way that is none.
func answer(w http.ResponseWriter, r *http.Request) {
	time.Sleep(time.Millisecond)
	if os.Getenv("HOSTILE") != "api" || time.Since(began) < sane {
		usual(w, r, "")
		return
	}
	// The operator lists nothing of an API that is not ready: it is, most of the time.
	if r.URL.Path == "/readyz" && atomic.AddInt64(&checked, 1)%12 != 0 {
		fmt.Fprint(w, "ok")
		return
	}
	// One kind for the requests of a look.
	kind := kinds[int(atomic.AddInt64(&requests, 1)/10)%len(kinds)]
	once(kind.name)
	kind.answer(w, r)
}

// endless writes a piece until nobody reads it any more, at most a gigabyte.
func endless(w http.ResponseWriter, start, piece string, pause time.Duration) {
	if _, err := w.Write([]byte(start)); err != nil {
		return
	}
	for sent := 0; sent < 1<<30; sent += len(piece) {
		if _, err := w.Write([]byte(piece)); err != nil {
			return
		}
		if pause > 0 {
			w.(http.Flusher).Flush()
			time.Sleep(pause)
		}
	}
}

func event(i int) string {
	return fmt.Sprintf(`{"type":"ADDED","object":{"kind":"Node","apiVersion":"v1","metadata":{"name":"n%d","resourceVersion":"%d"}}}`+"\n", i, i)
}

var kinds = []struct {
	name   string
	answer func(w http.ResponseWriter, r *http.Request)
}{
	{"list of 300 MiB", func(w http.ResponseWriter, r *http.Request) {
		endless(w, `{"kind":"List","apiVersion":"v1","metadata":{},"items":[`, strings.Repeat("{},", 1<<15), 0)
	}},
	{"string without end", func(w http.ResponseWriter, r *http.Request) { endless(w, `{"kind":"`, strings.Repeat("x", 1<<16), 0) }},
	{"slow bytes", func(w http.ResponseWriter, r *http.Request) { endless(w, `{"items":[`, " ", 100*time.Millisecond) }},
	{"redirects", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://169.254.169.254"+r.URL.Path, http.StatusTemporaryRedirect)
	}},
	{"times of the year 9999", func(w http.ResponseWriter, r *http.Request) { usual(w, r, "9999-12-30T22:00:00Z") }},
	{"nesting", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.Repeat(`{"items":[`, 100000)) }},
	{"inventory of 1 MiB", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/hostile/") {
			time.Sleep(4 * time.Second)
		}
		if !strings.HasSuffix(r.URL.Path, "/localcluster-manifests") {
			usual(w, r, "")
			return
		}
		var all []map[string]string
		for i := 0; i < 12000; i++ {
			all = append(all, map[string]string{"apiVersion": "v1", "kind": "ConfigMap", "namespace": "hostile", "name": fmt.Sprint("c", i)})
		}
		text, _ := json.Marshal(map[string]interface{}{"dropping": "9999-12-30T22:00:00Z", "objects": all})
		send(w, map[string]interface{}{"kind": "ConfigMap", "apiVersion": "v1", "metadata": object("localcluster-manifests"),
			"data": map[string]string{"inventory.json": string(text)}})
	}},
	{"errors of 10 MiB", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, `{"kind":"Status","code":500,"message":"%s"}`, strings.Repeat("é\\n", 5<<20))
	}},
	{"no HTTP", func(w http.ResponseWriter, r *http.Request) {
		if connection, _, err := w.(http.Hijacker).Hijack(); err == nil {
			connection.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n\x00\xff"))
			connection.Close()
		}
	}},
	{"headers of 1 MiB", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }},
	{"many nodes", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			usual(w, r, "")
			return
		}
		for i := 0; i < 1<<22; i++ {
			if _, err := w.Write([]byte(event(i))); err != nil {
				return
			}
		}
	}},
	{"watches that end at once", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			usual(w, r, "")
		}
	}},
}

func send(w http.ResponseWriter, value interface{}) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value)
}

func object(name string) map[string]interface{} {
	return map[string]interface{}{"name": name, "uid": "u-" + name, "resourceVersion": "1"}
}

// usual answers as K3s does, with this time if there is one.
func usual(w http.ResponseWriter, r *http.Request, at string) {
	if at == "" {
		at = time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	}
	path := strings.Trim(r.URL.Path, "/")
	last := path[strings.LastIndex(path, "/")+1:]
	switch {
	case path == "readyz":
		fmt.Fprint(w, "ok")
	case r.URL.Query().Get("watch") != "":
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case last == "nodes" || last == "leases":
		var items []interface{}
		for _, name := range names() {
			items = append(items, one(last, name, at))
		}
		send(w, map[string]interface{}{"kind": "List", "apiVersion": "v1", "metadata": map[string]string{"resourceVersion": "1"}, "items": items})
	case strings.Contains(path, "/nodes/"):
		send(w, one("nodes", last, at))
	case path == "api/v1":
		resource := map[string]interface{}{"name": "configmaps", "singularName": "", "namespaced": true, "kind": "ConfigMap", "verbs": []string{"get", "delete"}}
		send(w, map[string]interface{}{"kind": "APIResourceList", "groupVersion": "v1", "resources": []interface{}{resource}})
	case strings.Contains(path, "/serviceaccounts/"):
		send(w, map[string]interface{}{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object(last)})
	case r.Method == http.MethodGet:
		w.WriteHeader(http.StatusNotFound)
		send(w, map[string]interface{}{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
	default:
		send(w, map[string]interface{}{"kind": "ConfigMap", "apiVersion": "v1", "metadata": object(last)})
	}
}

func one(kind, name, at string) interface{} {
	if kind == "leases" {
		return map[string]interface{}{"metadata": object(name), "spec": map[string]string{"renewTime": at, "holderIdentity": name}}
	}
	condition := map[string]string{"type": "Ready", "status": "True", "lastHeartbeatTime": at, "lastTransitionTime": at}
	return map[string]interface{}{
		"kind": "Node", "apiVersion": "v1", "metadata": object(name), "spec": map[string]string{"podCIDR": "10.42.0.0/24"},
		"status": map[string]interface{}{"conditions": []interface{}{condition}},
	}
}

// names are those of the nodes: this server and two agents.
func names() []string {
	own, _ := os.Hostname()
	prefix := strings.TrimSuffix(own, "-server-0")
	return []string{own, prefix + "-agent-0", prefix + "-agent-1"}
}
