package fair

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/shared/whatisup"
)

const places, share = 16, 4

// No customer holds more than its share of places, and those that wait get them in
// turn, whoever asked first.
func TestPool(t *testing.T) {
	t.Parallel()
	s := NewPool(places, share)
	type asked struct {
		of      whatisup.CustomerID
		granted <-chan struct{}
		back    func()
	}
	var all []*asked
	ask := func(c whatisup.CustomerID) *asked {
		granted, back := s.Ask(c)
		all = append(all, &asked{c, granted, back})
		return all[len(all)-1]
	}
	has := func(a *asked) bool {
		select {
		case <-a.granted:
			return true
		default:
			return false
		}
	}
	held := func(c whatisup.CustomerID) (n int) {
		for _, a := range all {
			if a.of == c && has(a) {
				n++
			}
		}
		return n
	}
	const greedy = whatisup.CustomerID("greedy")
	for range 40 {
		ask(greedy)
	}
	if n := held(greedy); n != share {
		t.Errorf("one customer alone holds %d", n)
	}
	for n := range 5 {
		c := whatisup.CustomerID(fmt.Sprint(n))
		for range 4 {
			ask(c)
		}
	}
	if s.free != 0 || held("0") != 4 || held("2") != 4 || held("3") != 0 {
		t.Errorf("free %d; held %d, %d, %d", s.free, held("0"), held("2"), held("3"))
	}

	// Three places come back: those that hold none get one before others get more.
	for _, a := range all[:2] {
		a.back()
	}
	all[40].back()
	all = append(all[2:40:40], all[41:]...)
	if held("3")+held("4") < 2 {
		t.Errorf("those that wait hold %d and %d", held("3"), held("4"))
	}

	// Everything comes back, in any order, granted or not.
	for _, a := range all {
		a.back()
	}
	if s.free != places || len(s.held)+len(s.line.waiting)+len(s.line.turns) != 0 {
		t.Errorf("left: %+v", s)
	}
}

// Whatever is asked and given back, places are neither lost nor made, and none is
// free while somebody who may have one waits.
func TestPoolWalk(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 7))
	s := NewPool(places, share)
	var open []func()
	for range 20_000 {
		if n := rnd.IntN(len(open) + 20); n < len(open) {
			open[n]()
			open = slices.Delete(open, n, n+1)
		} else {
			_, back := s.Ask(whatisup.CustomerID(fmt.Sprint(rnd.IntN(7))))
			open = append(open, back)
		}
		total := s.free
		for c, n := range s.held {
			total += n
			if n > share || n <= 0 {
				t.Fatalf("%s holds %d", c, n)
			}
		}
		if total != places || s.free < 0 {
			t.Fatalf("%d places", total)
		}
		for c := range s.line.waiting {
			if s.free > 0 && s.held[c] < share {
				t.Fatalf("%s waits, %d are free", c, s.free)
			}
		}
	}
}

// A pace is held, and customers have their turns: whoever asks late for one thing gets
// it beside another's hundred.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPace(10, 2)
		began := time.Now()
		after := func(granted <-chan struct{}) time.Duration {
			<-granted
			return time.Since(began)
		}
		var crowd []<-chan struct{}
		var giveUp []func()
		for range 100 {
			granted, up := p.Ask("crowd")
			crowd, giveUp = append(crowd, granted), append(giveUp, up)
		}
		one, _ := p.Ask("one")
		if took := after(one); took > 200*time.Millisecond {
			t.Errorf("a second customer waited %v", took)
		}
		if took := after(crowd[50]); took < 4900*time.Millisecond || took > 5200*time.Millisecond {
			t.Errorf("the 51st of one customer began after %v", took)
		}
		for _, up := range giveUp { // also of those that have begun
			up()
		}
		last, _ := p.Ask("last")
		if took := after(last); took > 5400*time.Millisecond {
			t.Errorf("after all others gave up, one waited until %v", took)
		}
		time.Sleep(time.Minute)
		began = time.Now()
		for n := range 3 {
			granted, _ := p.Ask("rested")
			if took := after(granted); n < 2 && took > 0 || n == 2 && took != 100*time.Millisecond {
				t.Errorf("the %dth after a rest began after %v", n+1, took)
			}
		}
	})
}
