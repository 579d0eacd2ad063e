package whatisup

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// A star alone takes no presence; a name and a beginning do.
func TestPresenceHasToBeNamed(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]bool{"*": false, "presence.*": true, "presence.updated": true, "message.*": false} {
		if MatchesEvent(pattern, PresenceUpdated) != want {
			t.Errorf("%s: %v", pattern, !want)
		}
	}
	if !MatchesEvent("*", CallOffered) {
		t.Error("a star does not stand for a call")
	}
}

// What is told again has the same id, and nothing else has.
func TestNoticeEventID(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_800_000_000_000)
	id := NoticeEventID("i", GroupUpdated, at, "1", json.RawMessage(`{"a":1}`))
	if again := NoticeEventID("i", GroupUpdated, at, "1", json.RawMessage(`{"a":1}`)); again != id {
		t.Errorf("%s, then %s", id, again)
	}
	if idTime(string(id)) != at.UTC() {
		t.Errorf("the time of %s is %v", id, idTime(string(id)))
	}
	for _, other := range []EventID{
		NoticeEventID("j", GroupUpdated, at, "1", json.RawMessage(`{"a":1}`)), NoticeEventID("i", GroupCreated, at, "1", json.RawMessage(`{"a":1}`)),
		NoticeEventID("i", GroupUpdated, at, "2", json.RawMessage(`{"a":1}`)), NoticeEventID("i", GroupUpdated, at, "1", json.RawMessage(`{"a":2}`)),
		NoticeEventID("i", GroupUpdated, at.Add(time.Second), "1", json.RawMessage(`{"a":1}`)),
	} {
		if other == id {
			t.Error("two notices have one id")
		}
	}
}

func TestSubscribed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var list []Subscription
	for i := range SubscriptionsMost + 2 {
		list = Subscribed(list, NumberAddress(PhoneNumber(fmt.Sprint(4915100000000+i))), now.Add(time.Duration(i)))
	}
	if len(list) != SubscriptionsMost || list[0].Contact != NumberAddress("4915100000002") {
		t.Errorf("%d, the oldest %v", len(list), list[0])
	}
	again := Subscribed(list, list[0].Contact, now.Add(time.Hour))
	if last := again[len(again)-1]; len(again) != SubscriptionsMost || last.Contact != list[0].Contact || !last.Until.Equal(now.Add(time.Hour+SubscribedFor)) {
		t.Errorf("renewed: %d, the newest %v", len(again), last)
	}
	if alive := Alive(again, now.Add(SubscribedFor+time.Minute)); len(alive) != 1 {
		t.Errorf("%d have not ended", len(alive))
	}
}
