package dynamo

import (
	"errors"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

func makeInstance(t *testing.T, db *DB, c whatisup.CustomerID) (*whatisup.Instance, error) {
	t.Helper()
	id := whatisup.NewInstanceID()
	e, err := whatisup.NewEvent(whatisup.InstanceCreated, c, whatisup.Test, id, id.CreatedAt(), struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := whatisup.Config{Customer: c, Mode: whatisup.Test, ID: id, Name: "x", Version: 1, UpdatedAt: id.CreatedAt()}
	if err := db.CreateInstance(t.Context(), cfg, whatisup.Created{Event: e}); err != nil {
		return nil, err
	}
	return db.Instance(t.Context(), c, whatisup.Test, id)
}

// From the moment a customer is suspended nothing of it is made, and what was
// stopped is not started.
func TestSuspendedCustomerStartsNothing(t *testing.T) {
	t.Parallel()
	db := open(t)
	c := whatisup.NewCustomerID()
	if err := db.CreateCustomer(t.Context(), whatisup.Customer{ID: c, Name: "x"}); err != nil {
		t.Fatal(err)
	}
	i, err := makeInstance(t, db, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.SetSuspended(t.Context(), c, true); err != nil {
		t.Fatal(err)
	}
	if _, err := makeInstance(t, db, c); !errors.Is(err, whatisup.ErrSuspended) {
		t.Errorf("an instance: %v", err)
	}
	key := whatisup.APIKey{ID: whatisup.NewKeyID(), Customer: c, Mode: whatisup.Test, Name: "x"}
	if err := db.CreateKey(t.Context(), key, nil); !errors.Is(err, whatisup.ErrSuspended) {
		t.Errorf("a key: %v", err)
	}

	w, _ := i.WantStop(time.Now(), "")
	if err := db.Suspend(t.Context(), i, w); err != nil {
		t.Fatal(err)
	}
	read := func() *whatisup.Instance {
		i, err := db.Instance(t.Context(), c, whatisup.Test, i.Config.ID)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	for _, record := range []*whatisup.Record{nil, {Key: "k", Claim: "c", Print: []byte("p"), Answer: []byte("a"), ExpiresAt: time.Now().Add(time.Hour)}} {
		if record != nil {
			if _, err := db.Claim(t.Context(), *record, time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		for _, read := range []*whatisup.Instance{i, read()} { // read before the stop, and after
			w, _ := read.WantAttempt(time.Now(), "req_1")
			if err := db.Want(t.Context(), read, w, record); !errors.Is(err, whatisup.ErrSuspended) {
				t.Errorf("an attempt: %v", err)
			}
		}
	}
	if i := read(); !i.Wanted.Suspended || i.Wanted.Online {
		t.Errorf("%+v", i.Wanted)
	}

	if err := db.Unsuspend(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	i = read()
	w, _ = i.WantAttempt(time.Now(), "req_1")
	if err := db.Want(t.Context(), i, w, nil); err != nil || i.Wanted.Suspended {
		t.Errorf("after the end of it: %v, %+v", err, i.Wanted)
	}
}

// A key that is bound to an instance does not outlive it, whichever of the two
// writes comes first.
func TestBoundKeyEndsWithItsInstance(t *testing.T) {
	t.Parallel()
	db := open(t)
	c := whatisup.NewCustomerID()
	i, err := makeInstance(t, db, c)
	if err != nil {
		t.Fatal(err)
	}
	key := func() whatisup.APIKey {
		return whatisup.APIKey{ID: whatisup.NewKeyID(), Customer: c, Mode: whatisup.Test, Name: "x", Instance: i.Config.ID}
	}
	if err := db.CreateKey(t.Context(), key(), nil); err != nil {
		t.Fatal(err)
	}
	e, _ := whatisup.NewEvent(whatisup.InstanceDeleted, c, whatisup.Test, i.Config.ID, time.Now(), struct{}{})
	if err := db.DeleteInstance(t.Context(), i, e, nil); !errors.Is(err, whatisup.ErrConflict) {
		t.Errorf("a deletion that has not seen the key: %v", err)
	}
	if i, err = db.Instance(t.Context(), c, whatisup.Test, i.Config.ID); err != nil || i.BoundKeys != 1 {
		t.Fatalf("%v, %d", err, i.BoundKeys)
	}
	if err := db.DeleteInstance(t.Context(), i, e, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.CreateKey(t.Context(), key(), nil); !errors.Is(err, whatisup.ErrNotFound) {
		t.Errorf("a key for a deleted instance: %v", err)
	}
}
