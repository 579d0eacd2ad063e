package whatsapp_test

import (
	"strings"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
)

const world = "world-1"

func TestPairAndLogInAgain(t *testing.T) {
	t.Parallel()
	sim := whatsapptest.Start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "instance-1")
	device := c.pair(world, "4915112345678")
	if device.Instance != "instance-1" || device.World != world || device.PhoneNumber != "4915112345678" {
		t.Errorf("wrong device: %+v", device)
	}
	if got := c.Store.ID.String(); got != device.JID {
		t.Errorf("the client is %s, the server says %s", got, device.JID)
	}
	if got := c.Store.LID.String(); got != device.LID {
		t.Errorf("the client's LID is %s, the server says %s", got, device.LID)
	}
	c.Disconnect()
	eventually(t, "the server sees the end of the connection", func() bool { return !sim.Devices(world)[0].Connected })
	c.connect()
	await[*events.Connected](c)
	listed := sim.Devices("")
	if len(listed) != 1 || listed[0].Logins != 2 || !listed[0].Connected || !listed[0].Active || listed[0].PreKeys != 812 {
		t.Errorf("wrong list after two logins: %+v", listed)
	}
}

func TestLinksOutliveTheSimulator(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sim := whatsapptest.Start(t, whatsapp.Config{DataDir: dir})
	c := openClient(t, sim, "", world, "instance-1")
	device := c.pair(world, "4915112345678")
	path := c.path
	c.close()
	sim.Stop()

	sim = whatsapptest.Start(t, whatsapp.Config{DataDir: dir})
	c = openClient(t, sim, path, world, "instance-1")
	c.connect()
	await[*events.Connected](c)
	if got := sim.Devices(world); len(got) != 1 || got[0].JID != device.JID || got[0].PreKeys != 812 || got[0].Logins != 1 {
		t.Errorf("wrong list after the restart: %+v", got)
	}
}

func TestBothFormsOfTheCodeAreScanned(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "")
	c.connect()
	codes := await[*events.QR](c).Codes
	if len(codes) != 6 {
		t.Fatalf("%d codes, want 6", len(codes))
	}
	fields := strings.Split(strings.TrimPrefix(codes[5], "https://wa.me/settings/linked_devices#"), ",")
	if _, err := sim.ScanQR(t.Context(), "elsewhere", codes[0], "4915112345678"); whatsapp.ErrorCode(err) != "nothing_to_scan" {
		t.Errorf("a phone of another world scanned the code: %v", err)
	}
	if _, err := sim.ScanQR(t.Context(), world, strings.Join(fields[:4], ","), "4915112345678"); err != nil {
		t.Fatalf("the old form is not accepted: %v", err)
	}
	await[*events.Connected](c)
	if _, err := sim.ScanQR(t.Context(), world, codes[0], "4915112345678"); whatsapp.ErrorCode(err) != "nothing_to_scan" {
		t.Errorf("a code was scanned twice: %v", err)
	}
}

func TestDeviceRefusesAWrongSecret(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "")
	c.connect()
	code := await[*events.QR](c).Codes[0]
	fields := strings.Split(code, ",")
	fields[3] = fields[1] // some other 32 bytes
	_, err := sim.ScanQR(t.Context(), world, strings.Join(fields, ","), "4915112345678")
	if whatsapp.ErrorCode(err) != "device_refused" {
		t.Errorf("want device_refused, got %v", err)
	}
	if got := await[*events.PairError](c); got.Error != whatsmeow.ErrPairInvalidDeviceIdentityHMAC {
		t.Errorf("the client says %v", got.Error)
	}
	if len(sim.Devices("")) != 0 {
		t.Error("a device was linked all the same")
	}
}

func TestUnlinkFromEitherSide(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, "4915112345678")
	if n, err := sim.Unlink(whatsapp.Target{World: world, PhoneNumber: "4915112345678"}); n != 1 || err != nil {
		t.Fatalf("unlinked %d: %v", n, err)
	}
	if got := await[*events.LoggedOut](c); got.OnConnect {
		t.Error("the client learnt of it at a login only")
	}
	if _, err := sim.Unlink(whatsapp.Target{World: world, PhoneNumber: "4915112345678"}); whatsapp.ErrorCode(err) != "no_such_device" {
		t.Errorf("want no_such_device, got %v", err)
	}

	d := openClient(t, sim, "", world, "b")
	d.pair(world, "4915112345678")
	if err := d.Logout(t.Context()); err != nil {
		t.Fatalf("cannot log out: %v", err)
	}
	if got := sim.Devices(""); len(got) != 0 {
		t.Errorf("still linked: %+v", got)
	}

	// While it is away: the next login learns of it.
	e := openClient(t, sim, "", world, "c")
	e.pair(world, "4915112345678")
	e.Disconnect()
	if _, err := sim.Unlink(whatsapp.Target{World: world, Instance: "c"}); err != nil {
		t.Fatal(err)
	}
	e.connect()
	if got := await[*events.LoggedOut](e); !got.OnConnect || got.Reason != events.ConnectFailureLoggedOut {
		t.Errorf("wrong end: %+v", got)
	}
}

func TestALoginReplacesTheOneBefore(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, "4915112345678")
	other := newClient(t, sim, c.Store, world, "a")
	other.connect()
	await[*events.Connected](other)
	await[*events.StreamReplaced](c)
}

func TestALoginNeedsTheDevicesKey(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, "4915112345678")
	thief := openClient(t, sim, "", world, "b")
	id := *c.Store.ID
	thief.Store.ID = &id // its own Noise key
	thief.connect()
	if got := await[*events.LoggedOut](thief); got.Reason != events.ConnectFailureLoggedOut {
		t.Errorf("wrong answer to a wrong key: %v", got.Reason)
	}
	if !sim.Devices("")[0].Connected {
		t.Error("the rightful connection was touched")
	}
}

func TestLatestVersion(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{Revision: 1040000000})
	version, err := whatsmeow.GetLatestVersion(t.Context(), sim.HTTPClient(t, "", ""))
	if err != nil || version[2] != 1040000000 {
		t.Errorf("version %v, error %v", version, err)
	}
}
