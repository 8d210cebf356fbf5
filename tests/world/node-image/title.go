package main

import (
	"os"
	"strings"
	"unsafe"
)

// argv is the memory of the arguments, which `ps` shows.
var argv []byte

// releaseArgs copies the arguments, so that their memory can be written to.
func releaseArgs() {
	first, last := unsafe.StringData(os.Args[0]), os.Args[len(os.Args)-1]
	end := uintptr(unsafe.Pointer(unsafe.StringData(last))) + uintptr(len(last))
	argv = unsafe.Slice(first, int(end-uintptr(unsafe.Pointer(first))))
	for i, arg := range os.Args {
		os.Args[i] = strings.Clone(arg)
	}
}

// setTitle has `ps` show this in place of the arguments, as K3s does: theirs
// may hold secrets.
func setTitle(title string) {
	clear(argv[copy(argv, title):])
}
