//go:build unix && !linux

package main

import "syscall"

// ownGroup gives a process a group of its own, so that it can be killed together
// with its children, as a machine that dies kills them.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
