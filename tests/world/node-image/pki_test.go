package main

import (
	"crypto/x509/pkix"
	"os"
	"testing"
)

func TestLeafIsKept(t *testing.T) {
	dir := t.TempDir()
	authorityOf := func(name string) *authority {
		ca, err := ensureAuthority(dir+"/"+name, name)
		if err != nil {
			t.Fatal(err)
		}
		return ca
	}
	ca, other := authorityOf("ca"), authorityOf("other")
	file := dir + "/leaf"
	leaf := func(by *authority, sans ...string) string {
		if err := by.leaf(file, pkix.Name{CommonName: "u", Organization: []string{"g"}}, bothAuth, sans); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file + ".crt")
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	first := leaf(ca, "a", "10.0.0.1")
	if leaf(ca, "a", "10.0.0.1") != first {
		t.Error("one that lasts was made anew")
	}
	last := first
	changed := func(what, now string) {
		if now == last {
			t.Errorf("%s: it was kept", what)
		}
		last = now
	}
	changed("another name", leaf(ca, "b", "10.0.0.1"))
	changed("another authority", leaf(other, "b", "10.0.0.1"))
	os.Remove(file + ".key")
	changed("another key", leaf(other, "b", "10.0.0.1"))
	os.Remove(file + ".crt")
	changed("no certificate", leaf(other, "b", "10.0.0.1"))
	if err := other.leaf(file, pkix.Name{CommonName: "v"}, bothAuth, []string{"b", "10.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(file + ".crt")
	changed("another subject", string(data))
}
