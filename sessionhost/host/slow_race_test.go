//go:build race

package host

// slowness stretches the times of tests: the race detector makes everything
// several times slower.
const slowness = 4
