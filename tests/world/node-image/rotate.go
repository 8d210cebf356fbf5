package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// runToken is `k3s token`, of which only rotate is there: it asks the server
// on this node to exchange its token.
func runToken(args []string) {
	if len(args) == 0 || args[0] != "rotate" {
		fatalf("stand-in: token %s not implemented", strings.Join(args, " "))
	}
	flags := map[string]string{"server": "https://127.0.0.1:6443"}
	for args = args[1:]; len(args) > 0; args = args[1:] {
		name, value, joined := strings.Cut(strings.TrimLeft(args[0], "-"), "=")
		switch name {
		case "token", "server", "new-token":
		case "t":
			name = "token"
		case "s":
			name = "server"
		default:
			fatalf("flag provided but not defined: -%s", name)
		}
		if !joined {
			if args = args[1:]; len(args) == 0 {
				fatalf("flag needs an argument: -%s", name)
			}
			value = args[0]
		}
		flags[name] = value
	}
	fmt.Println("WARNING: Recommended to keep a record of the old token. If restoring from a snapshot, you must use the token associated with that snapshot.")
	if flags["token"] == "" {
		data, err := os.ReadFile("/var/lib/rancher/k3s/server/token")
		if err != nil {
			fatal(err)
		}
		flags["token"] = string(data)
	}
	t, err := parseToken(flags["token"], "server")
	if err != nil {
		fatal(err)
	}
	s, err := connectSupervisor(flags["server"], t)
	if err != nil {
		fatal(err)
	}
	body, err := json.Marshal(map[string]string{"newToken": flags["new-token"]})
	if err != nil {
		fatal(err)
	}
	if _, err := s.do("PUT", "/v1-k3s/token", body, nil); err != nil {
		fatal(err)
	}
	fmt.Println("Token rotated, restart k3s nodes with new token")
}

// serveRotate exchanges the token. Like K3s, it goes on to admit the old one
// until it is started again: who may join is read from its file then.
func (s *server) serveRotate(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	request := struct{ NewToken string }{}
	if err = errors.Join(err, json.Unmarshal(body, &request)); err != nil || r.Method != "PUT" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	secret := request.NewToken
	if secret == "" {
		secret = randomHex(16)
	}
	agent := s.agent
	if agent == s.token {
		agent = secret
	}
	err = errors.Join(
		writeFile(s.dir+"/cred/passwd", passwdFile(agent, secret), 0o600),
		writeFile(s.dir+"/token", []byte(fullToken(s.serving.pem, "server", secret)), 0o600),
		// The data is encrypted anew.
		writeFile(s.dir+"/cred/token-hash", []byte(hashSecret(secret)), 0o600),
	)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func passwdFile(agent, server string) []byte {
	return fmt.Appendf(nil, "%s,node,node,k3s:agent\n%s,server,server,k3s:server\n", agent, server)
}
