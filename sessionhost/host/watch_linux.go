package host

import "syscall"

// childAttributes: the child dies with its parent, however that ends, and is not
// reached by the terminal's own signals, which the parent passes on.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
