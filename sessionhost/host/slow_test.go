//go:build !race

package host

// slowness stretches the times of tests.
const slowness = 1
