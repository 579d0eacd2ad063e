//go:build !linux

package fleet

import "time"

// sinceBoot is only known on Linux, where hosts run; elsewhere a laptop that
// sleeps is found out by its first look.
func sinceBoot() time.Duration { return 0 }
