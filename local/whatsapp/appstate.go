package whatsapp

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waServerSync"
	"go.mau.fi/whatsmeow/proto/waSyncAction"
	"go.mau.fi/whatsmeow/store"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// An account's app state is what its phone and devices tell each other of
// contacts, pins, mutes and archives: collections of encrypted patches, each with
// a version. The phone here has the key, and so every patch is checked before it
// is kept.

// collection is how far a collection has come.
type collection struct {
	Version uint64 `json:"version"`
	Hash    []byte `json:"hash"`
}

// maxPatches is how many patches one answer holds.
const maxPatches = 50

func collectionKey(p person, name string, more ...string) []byte {
	return keyOf(append([]string{p.world, p.number, name}, more...)...)
}

// stateStore is the part of a client library's store that patches are made and
// checked with, in a transaction.
type stateStore struct {
	store.AppStateStore
	store.AppStateSyncKeyStore
	s  *Server
	tx *tx
	p  person
}

// syncKey is the account's one key for all collections.
func (s *Server) syncKey(p person) (id, data []byte) {
	key := s.seed.bytes(p.label("app state"))
	name := s.seed.bytes(p.label("app state id"))
	return append([]byte{0, 0}, name[:4]...), key[:]
}

func (t *stateStore) GetAppStateSyncKey(_ context.Context, id []byte) (*store.AppStateSyncKey, error) {
	own, data := t.s.syncKey(t.p)
	if string(id) != string(own) {
		return nil, nil
	}
	return &store.AppStateSyncKey{Data: data}, nil
}

func (t *stateStore) PutAppStateVersion(_ context.Context, name string, version uint64, hash [128]byte) error {
	return putJSON(t.tx.Bucket(bucketAppState), collectionKey(t.p, name), collection{version, hash[:]})
}

func (t *stateStore) state(name string) (out appstate.HashState, err error) {
	var c collection
	_, err = getJSON(t.tx.Bucket(bucketAppState), collectionKey(t.p, name), &c)
	out.Version = c.Version
	copy(out.Hash[:], c.Hash)
	return out, err
}

func macKey(index []byte) string { return "mac " + base64URL(index) }

func (t *stateStore) PutAppStateMutationMACs(_ context.Context, name string, _ uint64, macs []store.AppStateMutationMAC) error {
	for _, mac := range macs {
		if err := t.tx.Bucket(bucketAppState).Put(collectionKey(t.p, name, macKey(mac.IndexMAC)), mac.ValueMAC); err != nil {
			return err
		}
	}
	return nil
}

func (t *stateStore) DeleteAppStateMutationMACs(_ context.Context, name string, indexes [][]byte) error {
	for _, index := range indexes {
		if err := t.tx.Bucket(bucketAppState).Delete(collectionKey(t.p, name, macKey(index))); err != nil {
			return err
		}
	}
	return nil
}

func (t *stateStore) GetAppStateMutationMAC(_ context.Context, name string, index []byte) ([]byte, error) {
	value := t.tx.Bucket(bucketAppState).Get(collectionKey(t.p, name, macKey(index)))
	return append([]byte(nil), value...), nil
}

func (t *stateStore) processor() *appstate.Processor {
	return appstate.NewProcessor(&store.Device{AppState: t, AppStateKeys: t}, waLog.Noop)
}

var (
	errStale    = errors.New("the collection has gone on")
	errBadPatch = errors.New("the patch does not fit")
)

// append checks a patch and keeps it under the next version.
func (t *stateStore) append(name string, base uint64, patch []byte) (uint64, error) {
	state, err := t.state(name)
	if err != nil {
		return 0, err
	}
	if base != state.Version {
		return 0, errStale
	}
	var parsed waServerSync.SyncdPatch
	if proto.Unmarshal(patch, &parsed) != nil || len(parsed.GetMutations()) == 0 {
		return 0, errBadPatch
	}
	version := state.Version + 1
	parsed.Version = &waServerSync.SyncdVersion{Version: &version}
	list := &appstate.PatchList{Name: appstate.WAPatchName(name), Patches: []*waServerSync.SyncdPatch{&parsed}}
	if _, _, err := t.processor().DecodePatches(context.Background(), list, state, true); err != nil {
		return 0, errors.Join(errBadPatch, err)
	}
	kept, err := proto.Marshal(&parsed)
	if err != nil {
		return 0, err
	}
	return version, t.tx.Bucket(bucketAppState).Put(collectionKey(t.p, name, "patch "+padded(version)), kept)
}

func knownCollection(name string) bool {
	for _, known := range appstate.AllPatchNames {
		if string(known) == name {
			return true
		}
	}
	return false
}

// appState answers for collections: what is newer than the client's version, and
// whether a patch of the client's was taken.
func (s *Server) appState(d *device, q *Node) Node {
	sync, ok := child(q, "sync")
	if !ok {
		return iqError(q, 400, "bad-request")
	}
	var answers []Node
	asked, _ := sync.Content.([]Node)
	for i := range asked {
		if asked[i].Tag != "collection" {
			continue
		}
		if !knownCollection(str(&asked[i], "name")) {
			return iqError(q, 400, "bad-request")
		}
		answers = append(answers, s.collectionAnswer(d, &asked[i]))
	}
	return result(q, Node{Tag: "sync", Content: answers})
}

func (s *Server) collectionAnswer(d *device, asked *Node) Node {
	name := str(asked, "name")
	base, _ := strconv.ParseUint(str(asked, "version"), 10, 64)
	answer := Node{Tag: "collection", Attrs: Attrs{"name": name, "type": "result"}}
	fail := func(code int, text string) {
		answer.Attrs["type"] = "error"
		answer.Content = []Node{{Tag: "error", Attrs: Attrs{"code": strconv.Itoa(code), "text": text}}}
	}
	patch, changes := child(asked, "patch")
	var version uint64
	var err error
	if changes {
		version, err = s.keepPatch(d.person(), name, base, textOf(patch), d)
	}
	patches, current, more, readErr := s.patchesAfter(d.person(), name, base)
	answer.Attrs["version"] = strconv.FormatUint(max(version, current), 10)
	switch {
	case readErr != nil:
		fail(500, "internal-server-error")
		return answer
	case errors.Is(err, errStale):
		fail(409, "conflict")
	case err != nil:
		s.log.Info("an app state patch is refused", "error", err)
		fail(400, "bad-request")
		return answer
	case changes:
		return answer
	}
	if more {
		answer.Attrs["has_more_patches"] = "true"
	}
	if len(patches) > 0 {
		list, _ := answer.Content.([]Node)
		answer.Content = append(list, Node{Tag: "patches", Content: patches})
	}
	return answer
}

// keepPatch keeps a patch and tells the account's other devices.
func (s *Server) keepPatch(p person, name string, base uint64, patch []byte, by *device) (version uint64, err error) {
	err = s.db.update(func(tx *tx) error {
		version, err = (&stateStore{s: s, tx: tx, p: p}).append(name, base, patch)
		return err
	})
	if err == nil {
		s.tellAppState(p, name, version, by)
	}
	return version, err
}

func (s *Server) tellAppState(p person, name string, version uint64, by *device) {
	for _, d := range s.linkedTo(p) {
		if d != by {
			s.notify(d, Node{Tag: "notification", Attrs: Attrs{"type": "server_sync"}, Content: []Node{{
				Tag: "collection", Attrs: Attrs{"name": name, "version": strconv.FormatUint(version, 10)},
			}}})
		}
	}
}

func (s *Server) patchesAfter(p person, name string, base uint64) (patches []Node, current uint64, more bool, err error) {
	err = s.db.view(func(tx *tx) error {
		state, err := (&stateStore{s: s, tx: tx, p: p}).state(name)
		if err != nil {
			return err
		}
		current = base
		for version := base + 1; version <= state.Version; version++ {
			if len(patches) == maxPatches {
				more = true
				return nil
			}
			patch := tx.Bucket(bucketAppState).Get(collectionKey(p, name, "patch "+padded(version)))
			patches = append(patches, Node{Tag: "patch", Content: append([]byte(nil), patch...)})
			current = version
		}
		return nil
	})
	return patches, current, more, err
}

// change lets a phone make a patch of its own.
func (s *Server) change(p person, info appstate.PatchInfo) error {
	info.Timestamp = s.now()
	var version uint64
	err := s.db.update(func(tx *tx) error {
		t := &stateStore{s: s, tx: tx, p: p}
		state, err := t.state(string(info.Type))
		if err != nil {
			return err
		}
		id, _ := s.syncKey(p)
		patch, err := t.processor().EncodePatch(context.Background(), id, state, info)
		if err != nil {
			return err
		}
		version, err = t.append(string(info.Type), state.Version, patch)
		return err
	})
	if err == nil {
		s.tellAppState(p, string(info.Type), version, nil)
	}
	return err
}

// shareSyncKey gives a device the account's key for the collections. The device
// then asks for them.
func (s *Server) shareSyncKey(d *device) {
	id, data := s.syncKey(d.person())
	s.tellDevice(d, &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_APP_STATE_SYNC_KEY_SHARE.Enum(),
		AppStateSyncKeyShare: &waE2E.AppStateSyncKeyShare{Keys: []*waE2E.AppStateSyncKey{{
			KeyID: &waE2E.AppStateSyncKeyId{KeyID: id},
			KeyData: &waE2E.AppStateSyncKeyData{
				KeyData: data, Timestamp: proto.Int64(d.LinkedAt.UnixMilli()),
				Fingerprint: &waE2E.AppStateSyncKeyFingerprint{RawID: proto.Uint32(s.rawID(d.person())), CurrentIndex: proto.Uint32(0), DeviceIndexes: []uint32{0, d.KeyIndex}},
			},
		}}},
	})
}

// actChat is saving a contact, pinning, muting or archiving a chat, and their
// opposites.
func (s *Server) actChat(_ context.Context, p person, a *Action) (Done, error) {
	other, err := personNamed(p.world, a.To)
	if err != nil {
		return Done{}, err
	}
	on := a.On == nil || *a.On
	chat := s.lidOf(other, 0)
	switch a.Kind {
	case "save_contact":
		if a.Name == "" {
			return Done{}, refuse(http.StatusBadRequest, "invalid_request", "name must not be empty")
		}
		err = s.change(p, appstate.PatchInfo{Type: appstate.WAPatchCriticalUnblockLow, Mutations: []appstate.MutationInfo{{
			Index: []string{appstate.IndexContact, s.jidOf(other, 0).String()}, Version: 2,
			Value: &waSyncAction.SyncActionValue{ContactAction: &waSyncAction.ContactAction{
				FullName: &a.Name, LidJID: proto.String(chat.String()), SaveOnPrimaryAddressbook: proto.Bool(true),
			}},
		}}})
	case "pin":
		err = s.change(p, appstate.BuildPin(chat, on))
	case "mute":
		err = s.change(p, appstate.BuildMute(chat, on, time.Duration(seconds(a))*time.Second))
	case "archive":
		err = s.change(p, appstate.BuildArchive(chat, on, s.now(), nil))
	}
	return Done{}, err
}

func seconds(a *Action) uint32 {
	if a.Seconds == nil {
		return 0
	}
	return *a.Seconds
}
