// Package whatsapp is a WhatsApp server with simulated phones, for the sandbox
// and for tests. Client libraries connect to it as they do to WhatsApp; it was
// built to the protocol and not to one of them.
//
// # Running it
//
// The zero Config runs. New opens the data directory and starts nothing; Run
// keeps house until its context ends, and Serve answers on a listener, plain
// and TLS on the same port. In a test, whatsapptest.Start does all of it. The
// command cmd/simulator does it alone, on WHATSAPP_PORT, BIND and DATA_DIR.
//
// A client needs three things changed, none of them in its code: its
// connections must lead here (/ws/chat), it must trust Root instead of
// WhatsApp's key for the Noise handshake, and CA if it uses TLS.
//
// # Worlds, instances, phones
//
// A connection names its world and its instance in the headers X-WhatsApp-World
// and X-WhatsApp-Instance of the upgrade request; without them it is in the
// world "default" and has no instance. Numbers, messages, linked devices and
// faults of one world are unknown to another. The instance is a name for the
// control calls only; a device keeps the latest one that it came with.
//
// Every number of 7 to 15 digits is on WhatsApp and has a phone. A person is a
// name, not a record: account key, Signal keys and LID are derived from the
// server's seed, the world and the number. The LID is the number sent through a
// keyed permutation, so that it can be turned back without a table. Phones scan
// (ScanQR), type codes (EnterCode), answer passkey challenges (SignPasskey),
// write (SendText), read (MarkRead) and unlink (Unlink); what arrives at them is
// in Messages and AwaitMessage. They deliver receipts by themselves and
// read only when told to.
//
// # Who is authoritative, and what outlives what
//
// One bbolt file in the data directory holds the seed, the linked devices, their
// one-time keys, the phones' Signal sessions and the stanzas that wait for a
// device. A change is in the file before anybody outside can see its effect: a
// device is stored before it is told to restart, a session together with the
// stanza made from it, a stanza before it is sent, a phone's reading of a
// message before the sender's answer. So a killed process loses nothing that
// was answered. The file is synced to the disk once a second, not at each
// change: a power cut may cost it, and then every device links anew.
//
// Faults, the journal, the list of messages and connections under way to
// be linked end with the process.
//
// # A connection
//
// Handshake, then one of: a registration (it gets codes, and ends when they have
// run out or when it is linked, with the restart 515), a login (the Noise key
// must be the one that the device was linked with; anything else is 401), or a
// refusal. A new login of a device replaces its connection. A passive login gets
// its stanzas when it becomes active, or asks for them, or after a grace. A
// stanza that was not acknowledged (a message by a receipt or an ack, anything
// else by an ack) is sent again after the next login, in order.
//
// A connection is read by one goroutine; a second one lives while there is
// something to write. Nobody waits for a client: what is sent is queued, and a
// client that does not take it is closed. Handshakes and silences are bounded.
// Malformed frames and stanzas, and panics, end the one connection. Stanzas are
// checked for depth, length and type before the decoder sees them.
//
// Locks, in the order they may be taken: a phone's, a device's queue, the
// database's, a connection's output, Server.mu. Nothing is sent and no
// connection is closed under Server.mu.
//
// # What is modelled
//
//   - Noise XX with a certificate chain of three (root, intermediate, leaf).
//   - Registration by code: any number of refs; the text of the code in its old
//     form of four fields and in the new one with an address in front.
//   - Registration by pair code: right, wrong, expired.
//   - The passkey that WhatsApp asks some accounts for: challenge, assertion,
//     commitment, encrypted request.
//   - ADV: the account's signature, the HMAC, the device's signature (checked
//     here), the signed list of key indexes; and the device's identity is checked
//     again whenever it begins a session with a phone.
//   - Login, keepalive, passive and active, one-time keys (count, upload, digest,
//     low-water notice), rotation of the signed key, bundles, usync (devices,
//     lid, contact, status), media_conn, privacy, blocklist, props, app state
//     (always up to date), own-device notifications, logout, unlinking.
//   - 1:1 messages with Signal encryption between phones and linked devices and
//     among linked devices, LID or number in the address, copies for the other
//     devices of the sender, participant hashes, delivery and read receipts, retry
//     receipts in both directions, the offline queue.
//   - Misbehaviour: see Fault.
//
// # What is not
//
//   - Groups, broadcasts, channels, calls, status: refused with an error.
//   - Media: hosts are named and lead nowhere.
//   - App state changes are refused; nothing is ever synced by them. No history
//     is sent, and no app state keys.
//   - Presence and typing are taken and shown to nobody.
//   - Phones do not encrypt for each other: a text from phone to phone is handed
//     over. Phones hold one signed key for ever and never change identity.
//   - Limits of the real one: four devices a phone, two weeks without the phone,
//     rates, bans for behaviour.
//   - A one-time key of a phone can be used twice.
//
// # From which facts
//
// The source of whatsmeow (the version pinned in go.mod) for what a client sends
// and accepts; its issues for what the real server answers to errors; public
// descriptions of Noise, Signal (X3DH, double ratchet, XEdDSA) and WebAuthn.
// Checked against two independent clients: whatsmeow in this package's tests,
// and Baileys 7.0.0-rc14 by hand (code, pair code, texts and retries both ways,
// reconnecting, logout, unlinking). Where a fact is unknown the choice is named
// in a comment: the texts of errors, ids and times in attributes nobody reads.
//
// # Driving it over HTTP
//
// JSON in and out; errors are {"error": {"code", "message"}}. Where a call takes
// a world and none is given, scan, enter-code, messages, read, unlink and
// passkey mean "default", and faults, devices and journal mean every world.
//
//	GET    /control/root        {root (hex), ca (PEM)}
//	POST   /control/scan        {qr, phone_number, world?} → device. 409 nothing_to_scan, passkey_required,
//	                            connection_lost; 422 device_refused, bad_device_signature; 504 no_answer.
//	                            {instance, world} without qr: nothing_to_scan or 400 qr_required, because a
//	                            code holds a secret of the device that the server never sees
//	POST   /control/enter-code  {code, phone_number, world?} → device. 409 nothing_to_enter, passkey_required;
//	                            410 code_expired; 422 wrong_code
//	POST   /control/passkey     {phone_number, options, world?} → the assertion of the user's authenticator
//	POST   /control/messages    {from, to, text, world?, message_id?, name?, type?, addressing?} → {message_id}
//	GET    /control/messages    ?world=&from=&to=&message_id=&after=&limit=&wait= → messages; wait: seconds to
//	                            wait for the first one, at most 60; after: the position of the last one seen
//	POST   /control/read        {phone_number, from, message_id, world?}
//	POST   /control/unlink      {phone_number or instance or jid, world?} → {devices}. 404 no_such_device
//	POST   /control/faults      a Fault → {connections}: how many it met at once
//	GET    /control/faults      what stands; DELETE ?kind=&world=&instance=&phone_number=&jid= ends it
//	GET    /control/devices     ?world= → linked devices
//	GET    /control/journal     ?device=&world=&instance=&phone_number=&tag=&after=&limit=&wait= → entries
package whatsapp
