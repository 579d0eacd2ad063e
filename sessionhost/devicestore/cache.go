package devicestore

// cache holds rows of one link, the most recently used ones, up to a number of
// bytes. A row that is known to be absent is an entry with a nil value. It is a
// copy of what is stored and never ahead of it, so anything may be dropped at
// any time. The link's mutex guards it.
type cache struct {
	limit   int
	size    int
	entries map[string]*entry
	newest  *entry
	oldest  *entry
}

type entry struct {
	sk    string
	value []byte
	newer *entry
	older *entry
}

// entryOverhead is what an entry costs beside its key and value: the struct,
// the map's slot, allocation headers.
const entryOverhead = 160

func (e *entry) cost() int { return entryOverhead + len(e.sk) + cap(e.value) }

func newCache(limit int) *cache {
	return &cache{limit: limit, entries: make(map[string]*entry)}
}

func (c *cache) get(sk string) (*entry, bool) {
	e, ok := c.entries[sk]
	if ok && c.newest != e {
		c.unlink(e)
		c.push(e)
	}
	return e, ok
}

func (c *cache) put(sk string, value []byte) {
	c.drop(sk)
	e := &entry{sk: sk, value: value}
	if e.cost() > c.limit/2 {
		return // one giant record must not push everything else out
	}
	c.entries[sk] = e
	c.push(e)
	c.size += e.cost()
	c.trim(c.limit)
}

func (c *cache) drop(sk string) {
	if e, ok := c.entries[sk]; ok {
		c.unlink(e)
		delete(c.entries, sk)
		c.size -= e.cost()
	}
}

// trim drops the least recently used entries until size is at most limit.
func (c *cache) trim(limit int) {
	for c.size > limit && c.oldest != nil {
		c.drop(c.oldest.sk)
	}
}

func (c *cache) push(e *entry) {
	e.older, e.newer = c.newest, nil
	if c.newest != nil {
		c.newest.newer = e
	}
	c.newest = e
	if c.oldest == nil {
		c.oldest = e
	}
}

func (c *cache) unlink(e *entry) {
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		c.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		c.oldest = e.newer
	}
	e.newer, e.older = nil, nil
}
