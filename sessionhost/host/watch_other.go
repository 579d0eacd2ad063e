//go:build !linux

package host

import "syscall"

// childAttributes: only Linux, where hosts run, lets a child die with its parent.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
