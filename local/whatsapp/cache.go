package whatsapp

import (
	"cmp"
	"sync"
)

// cache remembers the latest answers to a question that is dear, and whose answer
// never changes.
type cache[K comparable, V any] struct {
	most  int // answers that it holds; maxCached by default
	mu    sync.RWMutex
	known map[K]V
}

// How many answers a cache holds: small ones, of a few hundred KB in all, and large
// ones, of a few MB.
const (
	maxCached      = 4096
	maxCachedLarge = 512
)

// get returns the answer, which make finds if it is not known.
func (c *cache[K, V]) get(key K, make func() V) V {
	c.mu.RLock()
	v, ok := c.known[key]
	c.mu.RUnlock()
	if ok {
		return v
	}
	v = make()
	c.put(key, v)
	return v
}

func (c *cache[K, V]) put(key K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = map[K]V{}
	}
	for old := range c.known {
		if len(c.known) < cmp.Or(c.most, maxCached) {
			break
		}
		delete(c.known, old) // any
	}
	c.known[key] = v
}

// peek returns the answer if it is known.
func (c *cache[K, V]) peek(key K) V {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.known[key]
}

// take removes an answer, for who changes it.
func (c *cache[K, V]) take(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok = c.known[key]
	delete(c.known, key)
	return v, ok
}
