package whatsapp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdh"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.mau.fi/libsignal/ecc"
	"google.golang.org/protobuf/proto"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// wire is the smallest client there can be: it shakes hands and exchanges
// stanzas. It serves where a library would be too large or too polite.
type wire struct {
	ws     *websocket.Conn
	in     frames
	shaken *session // with the directions of the client
	reads  uint32
	writes uint32
}

const wireTimeout = 30 * time.Second

func wireContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), wireTimeout)
}

func dialRaw(address, world, instance string) (*wire, error) {
	ctx, cancel := wireContext()
	defer cancel()
	header := http.Header{}
	header.Set(HeaderWorld, world)
	header.Set(HeaderInstance, instance)
	ws, _, err := websocket.Dial(ctx, "ws://"+address+"/ws/chat", &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(maxFrame)
	return &wire{ws: ws, in: frames{limit: maxFrame}}, nil
}

func (w *wire) write(data []byte) error {
	ctx, cancel := wireContext()
	defer cancel()
	return w.ws.Write(ctx, websocket.MessageBinary, data)
}

func (w *wire) frame() ([]byte, error) {
	for {
		if frame, err := w.in.next(); frame != nil || err != nil {
			return frame, err
		}
		ctx, cancel := wireContext()
		_, data, err := w.ws.Read(ctx)
		cancel()
		if err != nil {
			return nil, err
		}
		w.in.add(data)
	}
}

// dialWire opens a connection as far as the login or registration.
func dialWire(address, world, instance string, static *keys.KeyPair, payload *waWa6.ClientPayload) (*wire, error) {
	w, err := dialRaw(address, world, instance)
	if err != nil {
		return nil, err
	}
	if err = w.shake(static, payload); err != nil {
		_ = w.ws.CloseNow()
		return nil, err
	}
	return w, nil
}

func ready(pair *keys.KeyPair) *ecdh.PrivateKey {
	key, err := ecdh.X25519().NewPrivateKey(pair.Priv[:])
	if err != nil {
		panic(err) // only for another length
	}
	return key
}

func (w *wire) shake(static *keys.KeyPair, payload *waWa6.ClientPayload) error {
	header := []byte{'W', 'A', headerMagic, headerDictionary}
	n, ours := newNoise(header), keys.NewKeyPair()
	n.mixHash(ours.Pub[:])
	hello, err := proto.Marshal(&waWa6.HandshakeMessage{ClientHello: &waWa6.HandshakeMessage_ClientHello{Ephemeral: ours.Pub[:]}})
	if err != nil {
		return err
	}
	if err = w.write(append(header, putFrame(hello)...)); err != nil {
		return err
	}
	frame, err := w.frame()
	if err != nil {
		return err
	}
	var reply waWa6.HandshakeMessage
	if err = proto.Unmarshal(frame, &reply); err != nil {
		return err
	}
	server := reply.GetServerHello()
	n.mixHash(server.GetEphemeral())
	if err = n.mixKey(ready(ours), server.GetEphemeral()); err != nil {
		return err
	}
	serverStatic, err := n.decrypt(server.GetStatic())
	if err != nil {
		return err
	}
	if err = n.mixKey(ready(ours), serverStatic); err != nil {
		return err
	}
	if _, err = n.decrypt(server.GetPayload()); err != nil {
		return err
	}
	sealedStatic := n.encrypt(static.Pub[:])
	if err = n.mixKey(ready(static), server.GetEphemeral()); err != nil {
		return err
	}
	plain, err := proto.Marshal(payload)
	if err != nil {
		return err
	}
	finish, err := proto.Marshal(&waWa6.HandshakeMessage{ClientFinish: &waWa6.HandshakeMessage_ClientFinish{
		Static: sealedStatic, Payload: n.encrypt(plain),
	}})
	if err != nil {
		return err
	}
	w.shaken = new(session)
	if w.shaken.write, w.shaken.read, err = n.split(); err != nil {
		return err
	}
	return w.write(putFrame(finish))
}

func (w *wire) seal(plain []byte) []byte {
	sealed := w.shaken.write.Seal(nil, nonce(w.writes), plain, nil)
	w.writes++
	return putFrame(sealed)
}

func (w *wire) send(n Node) error {
	plain, err := waBinary.Marshal(n)
	if err != nil {
		return err
	}
	return w.write(w.seal(plain))
}

func (w *wire) receive() (*Node, error) {
	frame, err := w.frame()
	if err != nil {
		return nil, err
	}
	plain, err := w.shaken.read.Open(nil, nonce(w.reads), frame, nil)
	if err != nil {
		return nil, err
	}
	w.reads++
	return decodeStanza(plain)
}

// until drops stanzas until one has the tag.
func (w *wire) until(tag string) (*Node, error) {
	for {
		n, err := w.receive()
		if err != nil || n.Tag == tag {
			return n, err
		}
	}
}

func (w *wire) query(id, xmlns, kind string, content ...Node) (*Node, error) {
	if err := w.send(Node{Tag: "iq", Attrs: Attrs{"id": id, "xmlns": xmlns, "type": kind, "to": types.ServerJID}, Content: content}); err != nil {
		return nil, err
	}
	for {
		n, err := w.receive()
		if err != nil || n.Tag == "iq" && str(n, "id") == id {
			return n, err
		}
	}
}

// wireDevice is a device that such a client plays.
type wireDevice struct {
	noise, identity *keys.KeyPair
	signed          *keys.PreKey
	adv             []byte
	jid             types.JID
	proof           []byte        // the signed identity, as messages bring it along
	forge           *keys.KeyPair // signs in place of the identity
}

func newWireDevice() *wireDevice {
	prepareLibrary()
	d := &wireDevice{noise: keys.NewKeyPair(), identity: keys.NewKeyPair(), adv: bytes.Repeat([]byte{7}, 32)}
	d.signed = d.identity.CreateSignedPreKey(1)
	return d
}

func (d *wireDevice) registration() *waWa6.ClientPayload {
	props, _ := proto.Marshal(&waCompanionReg.DeviceProps{PlatformType: waCompanionReg.DeviceProps_CHROME.Enum()})
	return &waWa6.ClientPayload{DevicePairingData: &waWa6.ClientPayload_DevicePairingRegistrationData{
		ERegid:      binary.BigEndian.AppendUint32(nil, 4711),
		EKeytype:    []byte{ecc.DjbType},
		EIdent:      d.identity.Pub[:],
		ESkeyID:     []byte{0, 0, 1},
		ESkeyVal:    d.signed.Pub[:],
		ESkeySig:    d.signed.Signature[:],
		DeviceProps: props,
	}}
}

func (d *wireDevice) login() *waWa6.ClientPayload {
	user, _ := strconv.ParseUint(d.jid.User, 10, 64)
	return &waWa6.ClientPayload{Username: &user, Device: proto.Uint32(uint32(d.jid.Device)), Passive: proto.Bool(true)}
}

// link registers the device and lets scan make the phone scan its code.
func (d *wireDevice) link(address, world, instance string, scan func(qr string) error) error {
	w, err := dialWire(address, world, instance, d.noise, d.registration())
	if err != nil {
		return err
	}
	defer w.ws.CloseNow()
	codes, err := w.until("iq")
	if err != nil {
		return err
	}
	ref := content(codes, "pair-device", "ref")
	if err = w.send(Node{Tag: "iq", Attrs: Attrs{"id": codes.Attrs["id"], "type": "result", "to": types.ServerJID}}); err != nil {
		return err
	}
	qr := strings.Join([]string{string(ref), base64Of(d.noise.Pub[:]), base64Of(d.identity.Pub[:]), base64Of(d.adv)}, ",")
	scanned := make(chan error, 1)
	go func() { scanned <- scan(qr) }()
	offer, err := w.until("iq")
	if err != nil {
		return errors.Join(err, <-scanned)
	}
	var sealed waAdv.ADVSignedDeviceIdentityHMAC
	var signed waAdv.ADVSignedDeviceIdentity
	if err = errors.Join(
		proto.Unmarshal(content(offer, "pair-success", "device-identity"), &sealed),
		proto.Unmarshal(sealed.GetDetails(), &signed)); err != nil {
		return err
	}
	signer := d.identity
	if d.forge != nil {
		signer = d.forge
	}
	signed.DeviceSignature = sign(signer, advDeviceSignature, signed.GetDetails(), d.identity.Pub[:], signed.GetAccountSignatureKey())
	if d.proof, err = proto.Marshal(&signed); err != nil {
		return err
	}
	signed.AccountSignatureKey = nil
	answer, err := proto.Marshal(&signed)
	if err != nil {
		return err
	}
	device, _ := child(offer, "pair-success", "device")
	d.jid = jidAttr(device, "jid")
	if err = w.send(Node{Tag: "iq", Attrs: Attrs{"id": offer.Attrs["id"], "type": "result", "to": types.ServerJID}, Content: []Node{
		{Tag: "pair-device-sign", Content: []Node{{Tag: "device-identity", Content: answer}}},
	}}); err != nil {
		return err
	}
	restart, err := w.until("stream:error")
	if err == nil && str(restart, "code") != "515" {
		err = errors.New("no restart but " + render(restart))
	}
	return errors.Join(err, <-scanned)
}

// start logs in and brings the one-time keys of a new device along.
func (d *wireDevice) start(address, world, instance string) (*wire, error) {
	w, err := dialWire(address, world, instance, d.noise, d.login())
	if err != nil {
		return nil, err
	}
	if n, err := w.receive(); err != nil || n.Tag != "success" {
		_ = w.ws.CloseNow()
		return nil, fmt.Errorf("no success but %v: %w", n, err)
	}
	return w, nil
}

func (d *wireDevice) uploadKeys(w *wire, count int) error {
	list := make([]Node, count)
	for i := range list {
		list[i] = keyNode(uint32(i+1), binary.BigEndian.AppendUint64(bytes.Repeat([]byte{9}, 24), uint64(i)))
	}
	answer, err := w.query("keys", "encrypt", "set",
		Node{Tag: "registration", Content: binary.BigEndian.AppendUint32(nil, 4711)},
		Node{Tag: "type", Content: []byte{ecc.DjbType}},
		Node{Tag: "identity", Content: d.identity.Pub[:]},
		Node{Tag: "list", Content: list},
		signedKeyNode(1, d.signed.Pub[:], d.signed.Signature[:]),
	)
	if err == nil && str(answer, "type") != "result" {
		err = errors.New("keys refused: " + render(answer))
	}
	if err != nil {
		return err
	}
	_, err = w.query("active", "passive", "set", Node{Tag: "active"})
	return err
}

// child process

const childEnv = "WHATSAPP_TEST_SERVE"

// TestServe is not a test: it is the simulator in a process of its own, for
// tests that measure or kill it.
func TestServe(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		t.Skip("runs only as the child of another test")
	}
	address, server := serve(t, Config{DataDir: dir})
	fmt.Println("serving", address)
	commands := bufio.NewReader(os.Stdin)
	for {
		if _, err := commands.ReadString('\n'); err != nil {
			return
		}
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println("weight", m.HeapAlloc, m.StackInuse, runtime.NumGoroutine(), writes(server))
		if profile, err := os.Create(filepath.Join(dir, "heap.pprof")); err == nil {
			_ = pprof.WriteHeapProfile(profile)
			_ = profile.Close()
		}
	}
}

type childProcess struct {
	cmd     *exec.Cmd
	in      io.Writer
	out     *bufio.Reader
	address string
}

// weight is what a child process holds, and how often it has written.
type weight struct{ heap, stack, goroutines, writes int }

// weigh lets the child collect its garbage and tell what is left.
func (c *childProcess) weigh() (w weight, err error) {
	if _, err = io.WriteString(c.in, "weigh\n"); err != nil {
		return w, err
	}
	line, err := c.out.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscanf(line, "weight %d %d %d %d", &w.heap, &w.stack, &w.goroutines, &w.writes)
	}
	return w, err
}

func startChild(t testing.TB, dir string) *childProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServe$", "-test.timeout=20m")
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	child := &childProcess{cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(child.kill)
	line, err := child.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the child did not start: %v", err)
	}
	child.address = strings.TrimSpace(strings.TrimPrefix(line, "serving "))
	return child
}

func (c *childProcess) kill() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

func (c *childProcess) post(path, body string) error {
	ctx, cancel := wireContext()
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.address+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, answer.Status)
	}
	return nil
}
