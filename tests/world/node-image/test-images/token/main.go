// Command token is an authorization server for registries (the "Docker
// Registry v2 authentication" of distribution): who logs in with a password
// or an identity token gets a token for what was asked for, to be verified by
// the certificate that the registry has as its root bundle.
//
// Usage: token DIRECTORY ISSUER, with tls.crt, tls.key (RSA) and users (lines
// of name:password or name:identity-token) in the directory. It listens on
// port 5001 and logs who asked for what, without the secrets.
package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lifetime of a token. Short, so that a test of stale credentials need not wait.
const lifetime = 60 * time.Second

type server struct {
	issuer string
	users  [][2]string
	key    tls.Certificate
}

type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: token DIRECTORY ISSUER")
	}
	dir := os.Args[1]
	key, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		log.Fatal(err)
	}
	users, err := os.ReadFile(filepath.Join(dir, "users"))
	if err != nil {
		log.Fatal(err)
	}
	s := &server{issuer: os.Args[2], key: key}
	for _, line := range strings.Fields(string(users)) {
		if name, secret, ok := strings.Cut(line, ":"); ok {
			s.users = append(s.users, [2]string{name, secret})
		}
	}
	http.HandleFunc("/token", s.token)
	log.Fatal(http.ListenAndServe(":5001", nil))
}

// user returns whose secret this is; name is empty where only the secret is given.
func (s *server) user(name, secret string) (string, bool) {
	for _, u := range s.users {
		if (name == "" || name == u[0]) && subtle.ConstantTimeCompare([]byte(secret), []byte(u[1])) == 1 {
			return u[0], true
		}
	}
	return "", false
}

func (s *server) token(w http.ResponseWriter, r *http.Request) {
	// Query and, of a POST, form.
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var name string
	var known bool
	switch {
	case r.Method == http.MethodGet:
		if user, password, ok := r.BasicAuth(); ok && user != "" {
			name, known = s.user(user, password)
		}
	case r.Form.Get("grant_type") == "refresh_token":
		name, known = s.user("", r.Form.Get("refresh_token"))
	case r.Form.Get("grant_type") == "password":
		if user := r.Form.Get("username"); user != "" {
			name, known = s.user(user, r.Form.Get("password"))
		}
	}
	// Several, or one of several words.
	scopes := strings.Fields(strings.Join(r.Form["scope"], " "))
	log.Printf("%s %s user=%q known=%t scope=%q", r.Method, r.URL.Path, name, known, scopes)
	if !known {
		w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"wrong name or password"}]}`, http.StatusUnauthorized)
		return
	}
	token, err := s.sign(name, r.Form.Get("service"), scopes)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"token": token, "access_token": token,
		"expires_in": int(lifetime.Seconds()), "issued_at": time.Now().UTC().Format(time.RFC3339),
	})
}

// sign makes a token for all that was asked for.
func (s *server) sign(user, audience string, scopes []string) (string, error) {
	grants := []access{}
	for _, scope := range scopes {
		// repository:a/b:pull,push; a name may have a port before its first slash.
		first, last := strings.Index(scope, ":"), strings.LastIndex(scope, ":")
		if first < 0 || first == last {
			continue
		}
		grants = append(grants, access{scope[:first], scope[first+1 : last], strings.Split(scope[last+1:], ",")})
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	var chain []string
	for _, der := range s.key.Certificate {
		chain = append(chain, base64.StdEncoding.EncodeToString(der))
	}
	now := time.Now()
	text, err := encode(
		map[string]any{"typ": "JWT", "alg": "RS256", "x5c": chain},
		map[string]any{
			"iss": s.issuer, "sub": user, "aud": audience, "jti": fmt.Sprintf("%x", id), "access": grants,
			// A clock of another container may be a little behind.
			"iat": now.Unix(), "nbf": now.Add(-10 * time.Second).Unix(), "exp": now.Add(lifetime).Unix(),
		},
	)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256([]byte(text))
	key, ok := s.key.PrivateKey.(*rsa.PrivateKey)
	if !ok {
		return "", errors.New("tls.key is no RSA key")
	}
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), err
}

func encode(parts ...any) (string, error) {
	var out []string
	for _, part := range parts {
		text, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		out = append(out, base64.RawURLEncoding.EncodeToString(text))
	}
	return strings.Join(out, "."), nil
}
