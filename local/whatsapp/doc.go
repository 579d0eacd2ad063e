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
// Every number of 7 to 15 digits has a phone, and is on WhatsApp unless Phone
// says otherwise. A person is a name, not a record: account key, Signal keys and
// LID are derived from the server's seed, the world and the number. The LID is
// the number sent through a keyed permutation, so that it can be turned back
// without a table. A number is known under one form; control calls take every
// form of it, and numbers with the signs that people put into them.
//
// Phones scan (ScanQR), type codes (EnterCode), answer passkey challenges
// (SignPasskey), write (Write, SendText), do what else people do (Act), and
// unlink (Unlink). What they show is in PhoneMessages and AwaitShown; what passes
// the server, in Messages and AwaitMessage. Their behaviour is a Phone: by default they tell
// that a message has come and that it was read, and answer nothing. An absent
// phone does neither, and gets what was sent when it is back.
//
// # Who is authoritative, and what outlives what
//
// One bbolt file in the data directory holds the seed, the linked devices, their
// one-time keys, the phones' Signal sessions, behaviour and screens, groups, and
// what waits for a device or a phone; the folder media beside it holds the media
// host's files. A change is written before anybody outside can see its effect: a
// device is stored before it is told to restart, a session together with the
// stanza made from it, a stanza before it is sent, a phone's reading of a
// message before the sender's answer. So a killed process loses nothing that
// was answered. A message is one change: on all screens, in all queues. A change goes
// to a log beside the file, which a checkpoint brings into the file at least once a
// second, and the next start after a kill. Only that a device has acknowledged a stanza
// is written later, with the next change or within a tenth of a second; if the process
// is killed before, the device gets the stanza again. The file is synced to the disk
// once a second, not at each change: a power cut may cost it, and then every device
// links anew.
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
// Locks, in the order they may be taken: a phone's, the queues of devices by name, the
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
//     devices of the sender, participant hashes, retry receipts in both
//     directions, the offline queue.
//   - Receipts: delivered ("" of a phone; clients send inactive), read, played,
//     sender, read-self, played-self, retry, server-error; those of one device to
//     the device that sent, those of a phone to all devices of the sender; those
//     of five phones or more of a group in one.
//   - Numbers that come back in another form: Brazil, Mexico, Argentina.
//   - Refusals in the ack: 403 no member, 404 nobody there, 405 not allowed, 421 a
//     group's other addressing mode, 463 and 475 for new chats; the notice of the
//     reach-out time-lock.
//   - What phones send: see Body; quotes, forwards, mentions, disappearing
//     messages, votes and edits encrypted with a message's secret, view once and
//     the notice that stands for it, albums, a sender's broadcast list, a status,
//     and any message as raw bytes. What the owner writes on the own phone.
//   - Groups: creating, list, details, joining by link, the link and a new one,
//     adding (with an invitation where somebody must be asked), removing,
//     promoting, demoting, leaving, subject, description, picture, who writes, who
//     edits, disappearing messages, letting people in; communities with their
//     announcement group; all notices. Messages with sender keys, both addressing
//     modes. A phone sends its key along with every message.
//   - Presence and typing, for devices that are available; calls offered, ended,
//     refused; names, what people say of themselves, pictures; blocking; tokens by
//     which a person trusts another.
//   - A message that no device can read: the owner's phone sends it again when
//     the device asks for it.
//   - The media host, on the same listener: upload, download with ranges, expiry,
//     and what a phone puts there again when its device asks.
//   - App state: contacts, pins, mutes, archives and the owner's name, changed by
//     the phone or a device, each patch checked before it is kept; a conflict is
//     answered with 409. History: the newest 500 messages, what people call
//     themselves, both names of each, the account's salt and the people's tokens.
//     A phone gives both, and the key, when it is told to (the action sync).
//   - Misbehaviour: see Fault.
//
// # What is not
//
//   - Channels, but for what they post to a device; broadcast lists of a device. What a
//     device sends there is refused with an error.
//   - Nobody is told that somebody else has another linked device: who writes to the
//     devices before learns it from the answer.
//   - Phones give their history and the key to the app state only when told to.
//     No snapshots of the app state, no history on demand, no keys of devices.
//   - The sound of calls; devices never call. Business profiles.
//   - Privacy settings are as they are, but for who may add to groups.
//   - Phones do not encrypt for each other: what one writes to another is handed
//     over. Phones hold one signed key for ever and never change identity.
//   - A phone shows an id once and does not compare contents; it keeps 10,000
//     messages, and of those over 64 KB not the bytes.
//   - Limits of the real one: four devices a phone, two weeks without the phone,
//     rates, bans for behaviour.
//   - A one-time key of a phone can be used twice.
//
// # From which facts
//
// The source of whatsmeow (the version pinned in go.mod) for what a client sends
// and accepts; its issues for what the real server answers to errors; public
// descriptions of Noise, Signal (X3DH, double ratchet, XEdDSA) and WebAuthn.
// Checked by two independent clients as their makers publish them: whatsmeow in
// this package's tests, and Baileys 7.0.0-rc14 driven by testdata/baileys: here against the simulator
// alone (code, pair code, texts, receipts, reactions, edits, revocations, media, polls,
// groups, presence, calls, reconnecting, logout, unlinking), and in local/interfacetest at
// the other end of the product's own chats, with every kind of message that either can make. Where a fact is unknown the choice is named
// in a comment: the texts of errors, ids and times in attributes nobody reads.
//
// # Driving it over HTTP
//
// JSON in and out; errors are {"error": {"code", "message"}}. Where a call takes
// a world and none is given it means "default", but faults, devices and journal
// mean every world. The calls answer to addresses, localhost and Config.Names
// only (421 wrong_host), and to no page of another origin (403).
//
//	GET    /control/root        {root (hex), ca (PEM)}
//	POST   /control/scan        {qr, phone_number, world?} → device. 409 nothing_to_scan, passkey_required,
//	                            connection_lost; 422 device_refused, bad_device_signature; 504 no_answer.
//	                            {instance, world} without qr: nothing_to_scan or 400 qr_required, because a
//	                            code holds a secret of the device that the server never sees
//	POST   /control/enter-code  {code, phone_number, world?} → device. 409 nothing_to_enter, passkey_required;
//	                            410 code_expired; 422 wrong_code
//	POST   /control/passkey     {phone_number, options, world?} → the assertion of the user's authenticator
//	POST   /control/messages    a Writing → {message_id}: {from, to or group, text or body or raw, world?,
//	                            message_id?, name?, addressing?, reply_to?, forwarded?, ephemeral_seconds?, ad?,
//	                            secret_edit?, broadcast?, status?, channel?, unavailable?, undecryptable?}. Body has the
//	                            objects of the product's API, files as media_base64 (a sample without it), and
//	                            more types: vote, timer, album, event, invitation, button_reply, list_reply,
//	                            order. raw is base64 of a waE2E.Message. 409 message_exists, phone_offline,
//	                            not_in_group, not_allowed_in_group; 404 no_such_group
//	GET    /control/messages    ?world=&from=&to=&message_id=&after=&limit=&wait= → messages; wait: seconds to
//	                            wait for the first one, at most 60; after: the position of the last one seen
//	POST   /control/read        {phone_number, from, message_id, world?}
//	GET    /control/phones      ?world=&after=&limit= → {data: [Phone], next}: those that somebody has set, linked
//	                            or written to, by number; next: the number to go on after, or null
//	GET    /control/phones/N    ?world= → Phone {world, phone_number, lid, on_whatsapp, reads, replies, offline,
//	                            restricts}
//	PUT    /control/phones/N    ?world= {on_whatsapp?, reads?, replies?, offline?, restricts?, world?} → Phone;
//	                            replaces all, what is left out gets its default
//	GET    /control/phones/N/messages
//	                            ?world=&chat=&from=&message_id=&after=&limit=&bytes=&wait= → {data: [Shown], next: position
//	                            to go on after, or null}; bytes: at most so many in all, a message that is
//	                            larger alone is cut; Shown {position, message_id, from, chat, type, text, body,
//	                            at, read_at?, played_at?, edited_at?, revoked_at?}
//	POST   /control/phones/N/actions
//	                            an Action → Done {message_id?, call_id?, group?, phone?}. 404 no_such_message,
//	                            no_such_group; 409 phone_offline, no_poll, not_in_group, not_allowed_in_group
//	                              read, play    {message_id, to? or group?, from?}
//	                              vote          {message_id, options, to? or group?, from?}
//	                              offline, online
//	                              typing        {to or group, state?: typing, recording, paused}
//	                              call          {to or group, video?, call_id?} → call_id
//	                              hang_up       {call_id?, outcome?: timeout, accept, reject}. 404 no_such_call
//	                              create_group  {subject, members, description?, addressing?: lid, pn, announce?,
//	                                            locked?, approval?, seconds?, community?, parent?} → group;
//	                                            a community has an announcement group, too
//	                              join          {link} → group. 422 no_such_link; 409 already_in_group,
//	                                            group_full, approval_needed
//	                              leave         {group}
//	                              add, remove, promote, demote  {group, members} → group. 409 not_possible
//	                              settings      {group, subject?, description?, announce?, locked?, approval?,
//	                                            seconds?, addressing?, picture_base64?} → group; after a
//	                                            change of addressing a device that has not asked again is
//	                                            refused with 421
//	                              profile       {name?, about?, picture_base64?, picture_for?: everybody,
//	                                            nobody, group_add?: everybody, none}
//	                              block, unblock, trust  {to}
//	                              sync          {name?}: the owner's phone brings its devices up to date
//	                              save_contact  {to, name}
//	                              pin, mute, archive  {to, on?, seconds?}
//	GET    /control/groups      ?world=&phone_number= → {data: [Group]}
//	POST   /control/unlink      {phone_number or instance or jid, world?} → {devices}. 404 no_such_device
//	POST   /control/faults      a Fault → {connections}: how many it met at once
//	GET    /control/faults      what stands; DELETE ?kind=&world=&instance=&phone_number=&jid= ends it
//	GET    /control/devices     ?world= → linked devices
//	GET    /control/journal     ?device=&world=&instance=&phone_number=&tag=&after=&limit=&wait= → entries
package whatsapp
