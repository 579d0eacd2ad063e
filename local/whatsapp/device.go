package whatsapp

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// Device is a linked device as the control interface shows it.
type Device struct {
	JID         string    `json:"jid"`
	LID         string    `json:"lid"`
	PhoneNumber string    `json:"phone_number"`
	World       string    `json:"world"`
	Instance    string    `json:"instance"`
	Connected   bool      `json:"connected"`
	Active      bool      `json:"active"` // logged in, and not passive
	Logins      int       `json:"logins"` // since the simulator started
	Since       time.Time `json:"since"`  // of the connection, or of its end, or of the link
	LinkedAt    time.Time `json:"linked_at"`
	PreKeys     int       `json:"prekeys"`
	Queued      int       `json:"queued"`
	Platform    string    `json:"platform,omitempty"`
}

// deviceRecord is what is stored of a linked device.
type deviceRecord struct {
	World          string    `json:"world"`
	Instance       string    `json:"instance,omitempty"`
	Number         string    `json:"number"`
	ID             uint16    `json:"id"`
	Noise          []byte    `json:"noise"`
	Identity       []byte    `json:"identity"`
	RegistrationID uint32    `json:"registration_id"`
	SignedKeyID    uint32    `json:"signed_key_id"`
	SignedKey      []byte    `json:"signed_key"`
	SignedKeySig   []byte    `json:"signed_key_signature"`
	KeyIndex       uint32    `json:"key_index"`
	SignedIdentity []byte    `json:"signed_identity"` // ADVSignedDeviceIdentity with both signatures
	Platform       string    `json:"platform,omitempty"`
	LinkedAt       time.Time `json:"linked_at"`
}

// numberRecord keeps device ids and key indexes from being used twice.
type numberRecord struct {
	LastDevice uint16 `json:"last_device"`
	LastIndex  uint32 `json:"last_index"`
}

// device is a linked device in memory. The record does not change but for its
// keys and its instance; everything is guarded by Server.mu but the queue.
type device struct {
	deviceRecord
	conn    *conn
	logins  int
	since   time.Time
	preKeys int
	queued  int
	vouched [32]byte // hash of a device identity that was found to be good

	queueLock sync.Mutex        // held while a stanza is stored and sent, so that order is one; before mu
	pending   map[string]uint64 // stored stanzas by class and id, guarded by queueLock
}

const maxDevicesPerNumber = 99

func (r *deviceRecord) person() person { return person{r.World, r.Number} }

// name is the device's key in maps and buckets: one user, one device number.
func (r *deviceRecord) name() deviceName { return deviceName{r.person(), r.ID} }

type deviceName struct {
	person
	id uint16
}

func (n deviceName) key(more ...string) []byte {
	return keyOf(append([]string{n.world, n.number + ":" + strconv.Itoa(int(n.id))}, more...)...)
}

func (s *Server) view(d *device) Device {
	since := d.since
	if since.IsZero() {
		since = d.LinkedAt
	}
	p := d.person()
	return Device{
		JID:         s.jidOf(p, d.ID).String(),
		LID:         s.lidOf(p, d.ID).String(),
		PhoneNumber: d.Number,
		World:       d.World,
		Instance:    d.Instance,
		Connected:   d.conn != nil,
		Active:      d.conn != nil && d.conn.active,
		Logins:      d.logins,
		Since:       since.UTC(),
		LinkedAt:    d.LinkedAt.UTC(),
		PreKeys:     d.preKeys,
		Queued:      d.queued,
		Platform:    d.Platform,
	}
}

// Devices lists the linked devices, oldest link first: those of one world, or
// of all where world is empty.
func (s *Server) Devices(world string) []Device {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Device, 0, len(s.devices))
	for _, d := range s.devices {
		if world == "" || d.World == world {
			out = append(out, s.view(d))
		}
	}
	slices.SortFunc(out, func(a, b Device) int {
		return cmp.Or(a.LinkedAt.Compare(b.LinkedAt), cmp.Compare(a.World, b.World), cmp.Compare(a.JID, b.JID))
	})
	return out
}

// devicesOf returns the linked devices of a person by number. The caller holds mu.
func (s *Server) devicesOf(p person) []*device {
	out := slices.Clone(s.people[p])
	slices.SortFunc(out, func(a, b *device) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (s *Server) addDevice(d *device) {
	s.devices[d.name()] = d
	s.people[d.person()] = append(s.people[d.person()], d)
}

func (s *Server) loadDevices() error {
	return s.db.view(func(tx *tx) error {
		devices := tx.Bucket(bucketDevices)
		return devices.ForEach(func(key, _ []byte) error {
			d := new(device)
			if _, err := getJSON(devices, key, &d.deviceRecord); err != nil {
				return fmt.Errorf("read a linked device: %w", err)
			}
			keys, err := storedPreKeys(tx.Bucket(bucketPreKeys), d.name().key())
			if err != nil {
				return err
			}
			d.preKeys = len(keys)
			if err := d.loadQueue(tx); err != nil {
				return err
			}
			s.addDevice(d)
			return nil
		})
	})
}

// reserveDevice gives out the next device number and key index of a person.
// Numbers are not used again soon, as a contact may still know the old device.
func (s *Server) reserveDevice(p person) (id uint16, index uint32, err error) {
	s.mu.Lock()
	used := map[uint16]bool{}
	for _, d := range s.people[p] {
		used[d.ID] = true
	}
	s.mu.Unlock()
	if len(used) >= maxDevicesPerNumber {
		return 0, 0, refuse(http.StatusConflict, "too_many_devices", "this phone has %d linked devices already", len(used))
	}
	err = s.db.update(func(tx *tx) error {
		numbers, key := tx.Bucket(bucketNumbers), keyOf(p.world, p.number)
		var record numberRecord
		if _, err := getJSON(numbers, key, &record); err != nil {
			return err
		}
		record.LastIndex++
		for record.LastDevice = record.LastDevice%maxDevicesPerNumber + 1; used[record.LastDevice]; {
			record.LastDevice = record.LastDevice%maxDevicesPerNumber + 1
		}
		id, index = record.LastDevice, record.LastIndex
		return putJSON(numbers, key, record)
	})
	return id, index, err
}

// link makes a device durable. From here on it may log in.
func (s *Server) link(record deviceRecord) error {
	d := &device{deviceRecord: record, since: record.LinkedAt}
	if err := s.db.update(func(tx *tx) error {
		return putJSON(tx.Bucket(bucketDevices), record.name().key(), record)
	}); err != nil {
		return err
	}
	s.mu.Lock()
	s.addDevice(d)
	s.mu.Unlock()
	return nil
}

// forget removes a device and everything that belongs to it, and tells its
// connection, if there is one, with the stanza given.
func (s *Server) forget(d *device, farewell *Node) error {
	s.mu.Lock()
	if s.devices[d.name()] != d {
		s.mu.Unlock()
		return nil
	}
	delete(s.devices, d.name())
	s.people[d.person()] = slices.DeleteFunc(s.people[d.person()], func(other *device) bool { return other == d })
	if len(s.people[d.person()]) == 0 {
		delete(s.people, d.person())
	}
	c := d.conn
	d.conn = nil
	s.mu.Unlock()
	err := s.db.update(func(tx *tx) error {
		key := d.name().key()
		for _, bucket := range [][]byte{bucketPreKeys, bucketSessions, bucketQueue} {
			if err := deleteUnder(tx.Bucket(bucket), key); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketDevices).Delete(key)
	})
	if c != nil {
		if farewell != nil {
			c.sendLast(*farewell)
		} else {
			c.close("device removed")
		}
	}
	return err
}

// Target says whom a control call means. An empty field does not narrow.
type Target struct {
	World       string `json:"world,omitempty"`
	Instance    string `json:"instance,omitempty"`
	PhoneNumber string `json:"phone_number,omitempty"`
	JID         string `json:"jid,omitempty"`
}

func (t Target) matchesDevice(s *Server, d *device) bool {
	return (t.World == "" || t.World == d.World) &&
		(t.Instance == "" || t.Instance == d.Instance) &&
		(t.PhoneNumber == "" || t.PhoneNumber == d.Number) &&
		(t.JID == "" || t.JID == s.jidOf(d.person(), d.ID).String() || t.JID == s.lidOf(d.person(), d.ID).String())
}

// Unlink is the user removing linked devices on the phone: the server tells
// the device, forgets it, and refuses its logins from then on.
func (s *Server) Unlink(t Target) (int, error) {
	if t.PhoneNumber == "" && t.Instance == "" && t.JID == "" {
		return 0, badRequest("name a phone_number, an instance or a jid")
	}
	s.mu.Lock()
	var found []*device
	for _, d := range s.devices {
		if t.matchesDevice(s, d) {
			found = append(found, d)
		}
	}
	s.mu.Unlock()
	if len(found) == 0 {
		return 0, refuse(http.StatusNotFound, "no_such_device", "no linked device matches")
	}
	for _, d := range found {
		if err := s.forget(d, streamError("401", "device_removed")); err != nil {
			return 0, err
		}
		s.tellOwnDevices(d, "remove")
	}
	return len(found), nil
}

// find returns the linked device with this JID of either kind.
func (s *Server) find(world string, jid types.JID) (*device, bool) {
	p, ok := s.personOf(world, jid)
	if !ok {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.devices[deviceName{p, jid.Device}]
	return d, ok
}
