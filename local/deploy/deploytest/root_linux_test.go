package deploytest

import (
	"os"
	"syscall"
)

// inRoot makes a program start as nobody in an empty file system. Without the
// right to that it does so in a user namespace of its own.
func inRoot(dir string) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: 65532, Gid: 65532, NoSetGroups: true}}
	if os.Getuid() != 0 {
		attributes.Cloneflags = syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getgid(), Size: 1}}
	}
	return attributes
}
