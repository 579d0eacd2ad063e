package host

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// hasty is a fleet that notices a death within six seconds. Much shorter leases
// are lost by live hosts, too, when the machine is busy.
func (w *world) hasty() *world {
	w.fleet.Renew, w.fleet.RenewTry = slowness*500*time.Millisecond, slowness*2*time.Second
	w.fleet.Trust, w.fleet.Takeover = slowness*5*time.Second, slowness*6*time.Second
	w.fleet.Look, w.fleet.FreeForAll = 200*time.Millisecond, 300*time.Millisecond
	return w
}

// enduring gives WhatsApp the time that a busy machine needs.
func (w *world) enduring() *world {
	w.timing.FirstCode, w.timing.Login, w.timing.Unlink = slowness*7*time.Second, slowness*15*time.Second, slowness*15*time.Second
	return w
}

// mortal is a host on a lifeline of its own.
func (w *world) mortal(id string) (*runningHost, *lifeline) {
	w.t.Helper()
	l := newLifeline(w.t, w)
	cfg, conf := l.config(w, id)
	return w.hostOn(cfg, conf), l
}

func (w *world) send(number, from, text string) string {
	w.t.Helper()
	id, err := w.sim.SendText(w.t.Context(), whatsapp.Text{World: string(w.customer), From: from, To: number, Text: text})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// received are the message events of the log, by message id.
func (w *world) received(id whatisup.InstanceID) map[string]int {
	n := make(map[string]int)
	for _, e := range w.events(id) {
		if e.Name == whatisup.MessageReceived {
			var d whatisup.ReceivedData
			if err := json.Unmarshal(e.Data, &d); err != nil {
				w.t.Fatal(err)
			}
			n[string(d.MessageID)]++
		}
	}
	return n
}

// queued drains the events queue into what it has seen so far: how often each
// event came.
func (w *world) queued(seen map[whatisup.EventID]int) {
	w.t.Helper()
	for {
		out, err := w.queues.ReceiveMessage(w.t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(w.urls.Events), MaxNumberOfMessages: 10, WaitTimeSeconds: 1, MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return
		}
		for _, m := range out.Messages {
			var e whatisup.Event
			if err := json.Unmarshal([]byte(aws.ToString(m.Body)), &e); err != nil {
				w.t.Fatal(err)
			}
			if a := aws.ToString(m.MessageAttributes["event"].StringValue); a != string(e.Name) {
				w.t.Errorf("attribute event %q of a %s", a, e.Name)
			}
			seen[e.ID]++
			if _, err := w.queues.DeleteMessage(w.t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(w.urls.Events), ReceiptHandle: m.ReceiptHandle}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// everyEventIsTold checks the promise: each event exactly once in the log (by
// its id) and at least once on the queue.
func (w *world) everyEventIsTold(id whatisup.InstanceID) {
	w.t.Helper()
	seen := w.told
	missing := ""
	defer func() {
		if missing != "" {
			w.t.Logf("missing on the queue: %s", missing)
		}
	}()
	w.await("every event of the log on the queue", func() bool {
		w.queued(seen)
		missing = ""
		for _, e := range w.events(id) {
			if seen[e.ID] == 0 {
				missing += string(e.Name) + " "
			}
		}
		return missing == ""
	})
	once := make(map[whatisup.EventID]int)
	for _, e := range w.events(id) {
		if once[e.ID]++; once[e.ID] > 1 {
			if w.died && (e.Name == whatisup.MessageStatusChanged || e.Name == whatisup.MessageMediaReady) {
				continue // the next owner tells again what may not have been told
			}
			w.t.Errorf("%s stands in the log %d times: %s", e.Name, once[e.ID], e.Data)
		}
	}
	for mid, n := range w.received(id) {
		if n != 1 {
			w.t.Errorf("message %s has %d events", mid, n)
		}
	}
}

// Text that somebody writes is an event, in order, once.
func TestMessages(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.host("one")
	id := w.create()
	w.link(id, "491800000001")
	var ids []string
	for n := range 20 {
		ids = append(ids, w.send("491800000001", "491800000002", "text "+strconv.Itoa(n)))
	}
	w.await("all messages", func() bool { return len(w.received(id)) == len(ids) })
	n := 0
	for _, e := range w.events(id) {
		if e.Name != whatisup.MessageReceived {
			continue
		}
		var d whatisup.ReceivedData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			t.Fatal(err)
		}
		if string(d.MessageID) != ids[n] || d.Text == nil || *d.Text != "text "+strconv.Itoa(n) || d.Type != "text" || d.From.PhoneNumber == nil || *d.From.PhoneNumber != "491800000002" {
			t.Errorf("message %d is %s", n, e.Data)
		}
		n++
	}
	w.everyEventIsTold(id)
}

// A host that is cut off loses its sessions to another; no link and no message
// is lost, and the first one says nothing more.
func TestTakeover(t *testing.T) {
	t.Parallel()
	w := quick(t).hasty()
	_, line := w.mortal("one")
	const number = "491800000010"
	id := w.create()
	w.link(id, number)
	before, _ := w.device(id)
	w.host("two")
	line.cut()
	var sent []string
	for n := range 5 {
		sent = append(sent, w.send(number, "491800000011", fmt.Sprint(n)))
	}
	w.await("a login from the other host", func() bool { d, _ := w.device(id); return d.Logins > before.Logins && d.Connected })
	w.await("what was written meanwhile", func() bool { return len(w.received(id)) == len(sent) })
	w.status(id, whatisup.Connected, "")
	w.everyEventIsTold(id)
}

// A hand-over emits no event and shows nothing.
func TestHandOver(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.timing.Grace = patience // however slow the machine is
	first := w.host("one")
	const number = "491800000020"
	id := w.create()
	w.link(id, number)
	before, _ := w.device(id)
	events := len(w.events(id))
	w.host("two")
	first.stop()
	w.await("a login from the other host", func() bool { d, _ := w.device(id); return d.Logins > before.Logins && d.Connected })
	mid := w.send(number, "491800000021", "after")
	w.await("a message", func() bool { return w.received(id)[mid] == 1 })
	came := slices.DeleteFunc(w.events(id)[events:], func(e whatisup.Event) bool { return e.Name == whatisup.ContactUpdated }) // the sender's name
	if len(came) != 1 {
		t.Errorf("%d events came of a hand-over and one message", len(came))
	}
	w.status(id, whatisup.Connected, "")
}

// A hand-over in mid-send loses no message and sends none twice.
func TestHandOverInASend(t *testing.T) {
	t.Parallel()
	w := quick(t)
	first := w.host("one")
	id := w.create()
	w.link(id, "491800000025")
	w.host("two")
	own := w.letters(id, 20)
	w.await("a sent message", func() bool {
		m, err := w.db.Message(t.Context(), w.refOf(id), own[0].id)
		return err == nil && m.Status.Rank() >= whatisup.MessageSent.Rank()
	})
	w.died = true // a receipt may be cut off: then the next owner tells steps again
	first.stop()
	w.arrive(id, own)
	w.everyEventIsTold(id)
}

// What was asked while no host lived is done when one comes, wake-up or not.
func TestAskedWithoutHost(t *testing.T) {
	t.Parallel()
	w := quick(t)
	first := w.host("one")
	linked, deleted, loggedOut, fresh := w.create(), w.create(), w.create(), w.create()
	w.link(linked, "491800000030")
	w.link(deleted, "491800000031")
	w.link(loggedOut, "491800000032")
	first.stop()
	w.delete(deleted)
	w.logout(loggedOut)
	w.disconnect(linked)
	w.fetchQR(fresh)
	w.loseWakeUps()
	w.host("two")
	w.status(loggedOut, whatisup.Pending, whatisup.LoggedOut)
	w.status(linked, whatisup.Disconnected, whatisup.Stopped)
	w.scan(fresh, "491800000033")
	w.status(fresh, whatisup.Connected, "")
	w.await("two devices unlinked", func() bool { return len(w.sim.Devices(string(w.customer))) == 2 })
}

// loseWakeUps takes everything off the shards' queues.
func (w *world) loseWakeUps() {
	for s := range whatisup.Shard(w.shards) {
		for {
			got, err := w.commands.Poll(w.t.Context(), whatisup.Test, s, 0)
			if err != nil {
				w.t.Fatal(err)
			}
			if len(got) == 0 {
				break
			}
			if err := w.commands.Delete(w.t.Context(), whatisup.Test, s, got...); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// death is a moment at which a host dies: before or after the nth write of its
// name in a chapter of the story.
type death struct {
	chapter, write string
	nth            int
	after          bool
	// restart says that a process of the same name comes next, as the parent
	// process starts one; otherwise it is another host.
	restart bool
}

func (d death) String() string {
	when, then := "before", "another host"
	if d.after {
		when = "after"
	}
	if d.restart {
		then = "restart"
	}
	return fmt.Sprintf("%s/%s %s %d, %s", d.chapter, when, d.write, d.nth, then)
}

// TestDeathAtEveryWrite tells one story, in which the host dies before or after
// one of its writes, and the next one goes on. Links and events must survive it.
// The short run takes some of the points, make soak takes all.
func TestDeathAtEveryWrite(t *testing.T) {
	t.Parallel()
	deaths := everyDeath(t)
	t.Logf("%d deaths can be died in the story", len(deaths))
	var some []death
	for k := 0; k < len(deaths); k += 61 {
		some = append(some, deaths[k])
	}
	sends := inChapter(deaths, "send")
	for k := 0; k < len(sends); k += 17 {
		some = append(some, sends[k])
	}
	files := slices.DeleteFunc(inChapter(deaths, "files"), func(d death) bool { return !ofFiles(d.write) })
	for k := 0; k < len(files); k += 13 {
		some = append(some, files[k])
	}
	for _, d := range some {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			die(t, d)
		})
	}
}

// inChapter are the deaths of one chapter; empty: of all.
func inChapter(all []death, chapter string) []death {
	return slices.DeleteFunc(slices.Clone(all), func(d death) bool { return chapter != "" && d.chapter != chapter })
}

// TestSoakDeath dies every death, again and again, until a thousand deaths are
// died. SOAK_CHAPTER=send dies those of a send only, files those of a file on its way.
func TestSoakDeath(t *testing.T) {
	if os.Getenv("SOAK") == "" {
		t.Skip("make soak")
	}
	most, err := strconv.Atoi(os.Getenv("SOAK_DEATHS"))
	if err != nil {
		most = 1000
	}
	deaths := inChapter(everyDeath(t), os.Getenv("SOAK_CHAPTER"))
	began := time.Now()
	t.Run("all", func(t *testing.T) {
		for n := range most {
			d := deaths[n*(len(deaths)/most|1)%len(deaths)] // fewer are spread over the story, and over both ways to go on
			t.Run(fmt.Sprint(n, " ", d), func(t *testing.T) {
				t.Parallel()
				die(t, d)
			})
		}
	})
	t.Logf("%d deaths at %d points in %v", most, len(deaths), time.Since(began).Round(time.Second))
}

// rehearsals is how often the story is told without a death.
const rehearsals = 2

// everyDeath lists what the writes of a story in which nobody dies make possible.
// How often a host writes something depends on when it is woken; what counts are
// the writes that come each time.
func everyDeath(t *testing.T) (all []death) {
	t.Helper()
	var mu sync.Mutex
	came := make(map[death]int)
	var writes []death // in the order of one of the stories
	t.Run("rehearsals", func(t *testing.T) {
		for range rehearsals {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				s := &story{world: quick(t).hasty().enduring().filing()}
				s.tell()
				mu.Lock()
				defer mu.Unlock()
				writes = numbered(s.writes)
				for _, at := range writes {
					came[at]++
				}
			})
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	for _, at := range writes {
		if came[at] < rehearsals {
			continue
		}
		for _, at.after = range []bool{false, true} {
			for _, at.restart = range []bool{false, true} {
				all = append(all, at)
			}
		}
	}
	return all
}

// letter is a message that was accepted.
type letter struct {
	id whatisup.MessageID
	to string
}

// letters accepts messages to two people, as the API does.
func (w *world) letters(id whatisup.InstanceID, n int) (own []letter) {
	w.t.Helper()
	for k := range n {
		to := "49180000005" + strconv.Itoa(k%2)
		own = append(own, letter{w.accept(id, to, fmt.Sprintf(`{"type":"text","text":"letter %d"}`, k), ""), to})
	}
	w.wakeMessages(id)
	return own
}

// accept accepts a message to a number, with a body of the API, and a file if it has one.
func (w *world) accept(id whatisup.InstanceID, number, body string, file whatisup.MediaID) whatisup.MessageID {
	w.t.Helper()
	i := w.get(id)
	now := time.Now().UTC().Truncate(time.Millisecond)
	to := whatisup.NumberAddress(whatisup.PhoneNumber(number))
	mid := whatisup.NewMessageID()
	_, err := w.db.AcceptMessage(w.t.Context(), &whatisup.Message{
		Ref: w.refOf(id), ID: mid, Direction: whatisup.Outgoing, To: to, Chat: to, ChatType: whatisup.ChatDirect,
		Recipient: whatisup.Person{PhoneNumber: whatisup.PhoneNumber(number)}, Raw: json.RawMessage(body), Media: file, Link: i.Observed.Link,
		Status: whatisup.MessageQueued, StatusAt: now, DueAt: now, ExpiresAt: now.Add(time.Hour),
		Times: whatisup.MessageTimes{Created: now, Queued: now},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return mid
}

func (w *world) wakeMessages(id whatisup.InstanceID) {
	w.t.Helper()
	err := w.commands.Send(w.t.Context(), w.get(id).Shard, whatisup.Command{
		ID: whatisup.NewCommandID(), Kind: whatisup.WakeMessages, Customer: w.customer, Mode: whatisup.Test, Instance: id, SentAt: whatisup.At(time.Now()),
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) refOf(id whatisup.InstanceID) whatisup.Ref {
	return whatisup.Ref{Customer: w.customer, Mode: whatisup.Test, ID: id}
}

// arrive waits until the people have read the messages and all is told, and holds that
// each phone shows each message once, in its order.
func (w *world) arrive(id whatisup.InstanceID, own []letter) {
	w.t.Helper()
	for _, l := range own {
		w.await("message "+string(l.id)+" is read", func() bool {
			m, err := w.db.Message(w.t.Context(), w.refOf(id), l.id)
			if err != nil {
				w.t.Fatal(err)
			}
			return m.Status == whatisup.MessageRead && !m.MayHaveBeenSent && m.Error == nil
		})
	}
	w.await("everything is told", func() bool {
		told := make(map[whatisup.MessageID]bool)
		for _, e := range w.events(id) {
			var d whatisup.StatusData
			if e.Name == whatisup.MessageStatusChanged && json.Unmarshal(e.Data, &d) == nil && d.Status == whatisup.MessageRead {
				told[d.MessageID] = true
			}
		}
		return len(told) == len(own)
	})
	for _, to := range []string{"491800000050", "491800000051"} {
		var want, got []whatisup.MessageID
		for _, l := range own {
			if l.to == to {
				want = append(want, l.id)
			}
		}
		shown, _, err := w.sim.PhoneMessages(string(w.customer), to, whatsapp.ShownFilter{Limit: 1000})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, m := range shown {
			got = append(got, whatisup.MessageID(m.ID))
		}
		if !slices.Equal(got, want) {
			w.t.Errorf("%s shows %v, not %v", to, got, want)
		}
	}
}

// numbered tells writes of the same name and chapter apart.
func numbered(writes []death) []death {
	n := make(map[death]int)
	all := make([]death, len(writes))
	for i, at := range writes {
		n[at]++
		all[i] = at
		all[i].nth = n[at]
	}
	return all
}

// die tells the story with a death. How often the host writes one thing depends
// on what it finds together, so if it does not come to its deadly write twice the
// one before of that name is deadly. It must come to the first, if not each time.
func die(t *testing.T, d death) {
	for try := 1; ; try++ {
		s := &story{world: quick(t).hasty().enduring().filing(), deadly: d}
		s.tell()
		switch {
		case !s.died.IsZero():
			return
		case d.nth > 1 && try >= 2:
			d.nth, try = d.nth-1, 0
			t.Logf("the host did not come to this write; it dies at number %d", d.nth)
		case try >= 5:
			t.Errorf("the host did not come to this write in %d stories", try)
			return
		}
	}
}

// story is told of one instance: it is linked, receives, sends, carries files both ways,
// loses its connection, is logged out and deleted. The host dies in it if there is a deadly write.
type story struct {
	*world
	deadly death

	mu      sync.Mutex
	chapter string
	writes  []death // that were seen, with chapter and write alone
	died    time.Time
	next    chan struct{} // closed at the death
}

// point is asked at each write.
func (s *story) point(write string) (before, after bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := death{chapter: s.chapter, write: write}
	s.writes = append(s.writes, at)
	if s.deadly.write == "" || !s.died.IsZero() || s.chapter != s.deadly.chapter || write != s.deadly.write {
		return false, false
	}
	nth := 0
	for _, w := range s.writes {
		if w == at {
			nth++
		}
	}
	if nth != s.deadly.nth {
		return false, false
	}
	s.died, s.world.died = time.Now(), true
	close(s.next)
	return !s.deadly.after, s.deadly.after
}

// begin begins a chapter.
func (s *story) begin(chapter string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chapter = chapter
}

func (s *story) tell() {
	s.next = make(chan struct{})
	over := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(over)
	one, line := s.mortal("one")
	s.await("the shard", func() bool { return len(one.fleet.Owned()) == 1 })
	line.mu.Lock()
	line.point = s.point
	line.mu.Unlock()
	wg.Go(func() {
		select {
		case <-s.next:
			if s.deadly.restart {
				s.host("one")
			} else {
				s.host("two")
			}
		case <-over:
		}
	})

	s.begin("link")
	const number = "491800000040"
	id := s.create()
	// A scan may fail, or what came of it may be wiped, when the host dies over
	// it; then a person scans again.
	var fetched time.Time
	s.await("a link", func() bool {
		if time.Since(fetched) > time.Second {
			fetched = time.Now()
			s.fetchQR(id)
		}
		p, err := s.db.Pairing(s.t.Context(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		if i := s.get(id); p.Scannable(i.Wanted.Generation, time.Now()) {
			_, _ = s.sim.ScanQR(s.t.Context(), string(s.customer), p.Raw, number)
		}
		return s.get(id).Observed.Status == whatisup.Connected
	})
	link := s.get(id).Observed.Link

	s.begin("receive")
	var sent []string
	for n := range 3 {
		sent = append(sent, s.send(number, "491800000041", fmt.Sprint("before ", n)))
	}
	s.await("three messages", func() bool { return len(s.received(id)) == len(sent) })

	s.begin("send")
	own := s.letters(id, 3)
	s.arrive(id, own)

	s.begin("files")
	sent = append(sent, s.carry(id, number)...)

	s.begin("drop")
	s.fault(id, whatsapp.Fault{Kind: "drop"})
	sent = append(sent, s.send(number, "491800000041", "after the drop"))
	s.await("the message after the drop", func() bool { return len(s.received(id)) == len(sent) })
	s.status(id, whatisup.Connected, "")
	if i := s.get(id); i.Observed.Link != link || !i.Observed.Confirmed {
		s.t.Errorf("link %d became %d", link, i.Observed.Link)
	}
	s.everyEventIsTold(id)

	s.begin("logout")
	s.logout(id)
	s.status(id, whatisup.Pending, whatisup.LoggedOut)
	s.await("unlinked device", func() bool { return len(s.sim.Devices(string(s.customer))) == 0 })

	s.begin("delete")
	shard := s.get(id).Shard
	s.delete(id)
	s.await("finished tombstone", func() bool {
		hints, err := s.db.ShardInstances(s.t.Context(), whatisup.Test, shard)
		if err != nil {
			s.t.Fatal(err)
		}
		return len(hints) == 0
	})
	s.everyEventIsTold(id)
	s.noFilesLeft(id)
}

// shown is the state that a customer is shown, and since when the shard's owner has it
// if nobody handed it over.
func (w *world) shown(id whatisup.InstanceID) (whatisup.Shown, time.Time) {
	w.t.Helper()
	i := w.get(id)
	owners, err := w.db.OwnersAlive(w.t.Context(), whatisup.Test)
	if err != nil {
		w.t.Fatal(err)
	}
	owner := owners[i.Shard]
	return whatisup.View(i, owner, time.Now()), owner.Since
}

// Where no host was for a moment the phone may have removed the device: nothing is
// shown as connected until a login has said so, and a link that is still there is shown
// so then, as if nothing had been.
func TestNobodyVouchesForALink(t *testing.T) {
	t.Parallel()
	w := quick(t).hasty()
	w.timing.Grace = patience // the session itself shows nothing of the gap
	_, line := w.mortal("one")
	gone, kept := w.create(), w.create()
	w.link(gone, "491800000030")
	w.link(kept, "491800000031")
	if s, _ := w.shown(kept); s.Status != whatisup.Connected {
		t.Fatalf("a linked instance is shown as %s", s.Status)
	}
	before, events := w.get(kept).Observed.UpdatedAt, len(w.events(kept))
	_, claimed := w.shown(kept)
	line.cut()
	w.await("no connection", func() bool { d, _ := w.device(gone); return !d.Connected })
	if n, err := w.sim.Unlink(whatsapp.Target{World: string(w.customer), Instance: string(gone)}); n != 1 || err != nil {
		t.Fatalf("unlinked %d, %v", n, err)
	}
	for _, id := range []whatisup.InstanceID{gone, kept} {
		w.fault(id, whatsapp.Fault{Kind: "unreachable", Seconds: 60})
	}
	w.host("two")
	looks := 0
	look := func() whatisup.Shown {
		s, since := w.shown(gone)
		if since.After(claimed) { // by the new owner
			looks++
			if s.Status == whatisup.Connected {
				t.Fatal("a removed link is shown as connected")
			}
		}
		return s
	}
	w.await("looks before a login", func() bool { look(); return looks > 10 })
	w.clear(gone)
	w.clear(kept)
	w.await("the end of the one link", func() bool {
		s := look()
		return s.Status == whatisup.Disconnected && s.Reason != nil && *s.Reason == whatisup.RemovedOnPhone
	})
	w.await("the other link", func() bool { s, since := w.shown(kept); return since.After(claimed) && s.Status == whatisup.Connected })
	if d, _ := w.device(kept); !d.Connected {
		t.Error("it is shown before its login")
	}
	if after := w.get(kept).Observed.UpdatedAt; !after.Equal(before) || len(w.events(kept)) != events {
		t.Errorf("a gap that is not told moved updated_at from %v to %v, and made %d events", before, after, len(w.events(kept))-events)
	}
}
