package main

import "syscall"

// ownGroup gives a process a group of its own, so that it can be killed together
// with its children, as a machine that dies kills them. It dies with this one.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
