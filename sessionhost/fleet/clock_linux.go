package fleet

import (
	"time"

	"golang.org/x/sys/unix"
)

func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // a kernel before 2.6.39; the monotonic clock remains
	}
	return time.Duration(ts.Nano())
}
