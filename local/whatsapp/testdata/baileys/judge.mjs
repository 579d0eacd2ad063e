// Baileys against the simulator: it does what people do with WhatsApp and says of each
// step whether it went well.
import { createHash } from 'node:crypto'
import { downloadMediaMessage, decryptPollVote, jidNormalizedUser, DisconnectReason } from 'baileys'
import { Client, control, quiet, step, check, soon, failed } from './client.mjs'

const own = '4915112345678', friend = '31612345678', other = '31600000002'
const friendJid = `${friend}@s.whatsapp.net`
const act = (number, action) => control('POST', `phones/${number}/actions`, action)
const phoneWrites = fields => control('POST', 'messages', { from: friend, to: own, ...fields })
const screen = async (number, id) => (await control('GET', `phones/${number}/messages?limit=1000&message_id=${id}`)).data[0]
const shown = (number, id, fits = () => true) => soon(`the phone ${number} shows ${id}`, async () => {
	const found = await screen(number, id)
	return found && fits(found) && found
})

const c = new Client()

await step('qr', async () => {
	await c.open(`${process.env.STATE}/qr`)
	const { qr } = await c.until('connection.update', e => e.qr, 'a code')
	await control('POST', 'scan', { qr, phone_number: own })
	await c.linked()
})

await step('texts and receipts', async () => {
	const { message_id: id } = await phoneWrites({ text: 'hello' })
	const got = await c.message(id)
	check(got.message.conversation === 'hello', `got ${JSON.stringify(got.message)}`)
	await c.sock.readMessages([got.key])
	const sent = await c.send(friendJid, { text: 'hello back' })
	await shown(friend, sent.key.id, m => m.text === 'hello back')
	// It tells of a receipt by itself, or with the message if it has kept that back.
	await c.until('', e => e.key?.id === sent.key.id && e.update?.status === 4 ||
		e.messages?.some?.(m => m.key?.id === sent.key.id && m.status === 4), 'read')
	const answer = await c.send(friendJid, { text: 'quoted' }, { quoted: got })
	await shown(friend, answer.key.id, m => m.body.context.quoted.message_id === id)
})

await step('reactions, edits, revocations', async () => {
	const sent = await c.send(friendJid, { text: 'tpyo' })
	await shown(friend, sent.key.id)
	await c.send(friendJid, { text: 'typo', edit: sent.key })
	await shown(friend, sent.key.id, m => m.text === 'typo' && m.edited_at)
	await c.send(friendJid, { delete: sent.key })
	await shown(friend, sent.key.id, m => m.revoked_at)

	const { message_id: id } = await phoneWrites({ body: { type: 'text', text: 'one' } })
	const got = await c.message(id)
	const reaction = await c.send(got.key.remoteJid, { react: { text: '👍', key: got.key } })
	await shown(friend, reaction.key.id, m => m.type === 'reaction' && m.body.target.message_id === id)
	await phoneWrites({ body: { type: 'edit', target: id, text: 'two' } })
	await c.until('messages.update', e => e.key.id === id && e.update.message?.editedMessage?.message?.conversation === 'two', 'edit')
	await phoneWrites({ body: { type: 'revoke', target: id } })
	await c.until('messages.update', e => e.key.id === id && e.update.message === null, 'revocation')
})

await step('media both ways', async () => {
	const data = Buffer.alloc(100_000, 'picture ')
	const { message_id: id } = await phoneWrites({ body: { type: 'image', caption: 'look', media_base64: data.toString('base64') } })
	const got = await c.message(id)
	const file = await downloadMediaMessage(got, 'buffer', {}, { logger: quiet, reuploadRequest: c.sock.updateMediaMessage })
	check(file.equals(data), `${file.length} bytes`)
	const sent = await c.send(friendJid, { document: data, mimetype: 'text/plain', fileName: 'a.txt' })
	await shown(friend, sent.key.id, m => m.type === 'document' && m.body.sha256 === createHash('sha256').update(data).digest('hex'))
})

await step('poll and vote', async () => {
	const poll = await c.send(friendJid, { poll: { name: 'Which?', values: ['a', 'b'], selectableCount: 1 } })
	await shown(friend, poll.key.id, m => m.type === 'poll')
	const { message_id: vote } = await act(friend, { kind: 'vote', message_id: poll.key.id, options: ['b'] })
	const { message, key } = await c.message(vote)
	const chosen = decryptPollVote(message.pollUpdateMessage.vote, {
		pollCreatorJid: jidNormalizedUser(c.sock.user.lid), pollMsgId: poll.key.id,
		pollEncKey: poll.message.messageContextInfo.messageSecret, voterJid: key.remoteJid
	}).selectedOptions
	check(chosen.length === 1 && Buffer.from(chosen[0]).equals(createHash('sha256').update('b').digest()), 'another option')
})

await step('groups', async () => {
	const group = await c.sock.groupCreate('Ours', [friendJid, `${other}@s.whatsapp.net`])
	check(group.subject === 'Ours' && group.participants.length === 3, JSON.stringify(group))
	for (const text of ['first', 'second']) {
		const sent = await c.send(group.id, { text })
		await shown(friend, sent.key.id, m => m.text === text && m.chat === group.id)
		await shown(other, sent.key.id)
	}
	const { message_id: id } = await control('POST', 'messages', { from: other, group: group.id, text: 'from a phone' })
	const got = await c.message(id)
	check(got.message.conversation === 'from a phone' && got.key.remoteJid === group.id, JSON.stringify(got.message))
	await c.sock.groupUpdateSubject(group.id, 'Renamed')
	check((await c.sock.groupMetadata(group.id)).subject === 'Renamed', 'not renamed')
	const [outcome] = await c.sock.groupParticipantsUpdate(group.id, [friendJid], 'promote')
	check(outcome.status === '200', JSON.stringify(outcome))
	const code = await c.sock.groupInviteCode(group.id)
	await act('31600000003', { kind: 'join', link: code })
	await c.until('group-participants.update', e => e.id === group.id && e.action === 'add', 'somebody joins')

	const { group: theirs } = await act(friend, { kind: 'create_group', subject: 'Theirs', members: [own] })
	await c.until('groups.upsert', e => e.id === theirs.id || e[0]?.id === theirs.id, 'their group')
	const sent = await c.send(theirs.id, { text: 'hello, theirs' })
	await shown(friend, sent.key.id, m => m.text === 'hello, theirs')
	await c.sock.groupLeave(theirs.id)
	check(!(await control('GET', `groups?phone_number=${own}`)).data.some(g => g.id === theirs.id), 'still in it')
})

await step('contacts, profile, blocks, presence', async () => {
	const [here] = await c.sock.onWhatsApp(friend)
	check(here.exists, JSON.stringify(here))
	await act(friend, { kind: 'profile', about: 'at work' })
	const [status] = await c.sock.fetchStatus(friendJid)
	check(status.status.status === 'at work', JSON.stringify(status))
	await c.sock.updateProfileStatus('busy')
	await c.sock.updateBlockStatus(`${other}@s.whatsapp.net`, 'block')
	check((await c.sock.fetchBlocklist()).length === 1, 'not blocked')
	c.sock.authState.creds.me.name ||= 'Judge' // it tells nothing of a nameless user's presence
	await c.sock.sendPresenceUpdate('available')
	await c.sock.presenceSubscribe(friendJid)
	await act(friend, { kind: 'typing', to: own })
	await c.until('presence.update', e => Object.values(e.presences).some(p => p.lastKnownPresence === 'composing'), 'typing')
})

await step('calls', async () => {
	const { call_id: id } = await act(friend, { kind: 'call', to: own })
	const offer = await c.until('call', e => e.id === id && e.status === 'offer', 'a call')
	await c.sock.rejectCall(offer.id, offer.from)
})

await step('reconnect', async () => {
	c.sock.end(undefined)
	await c.until('connection.update', e => e.connection === 'close', 'close')
	const { message_id: id } = await phoneWrites({ text: 'while away' })
	await c.again()
	check((await c.message(id)).message.conversation === 'while away', 'another text')
	const sent = await c.send(friendJid, { text: 'back again' })
	await shown(friend, sent.key.id)
})

await step('logout', async () => {
	await c.sock.logout()
	await soon('the link is gone', async () => (await control('GET', 'devices')).length === 0) // it waits for no answer
})

await step('pair code', async () => {
	const p = new Client()
	await p.open(`${process.env.STATE}/code`)
	await p.until('connection.update', e => e.qr, 'a code')
	const code = await p.sock.requestPairingCode(own)
	await soon('the code can be typed', async () => { // it gives the code out before it has told the server
		try {
			return await control('POST', 'enter-code', { code, phone_number: own })
		} catch (error) {
			if (!error.message.includes('nothing_to_enter')) throw error
		}
	})
	await p.linked()
	const sent = await p.send(friendJid, { text: 'by code' })
	await shown(friend, sent.key.id)
	await control('POST', 'unlink', { phone_number: own })
	await p.until('connection.update', e => e.connection === 'close' && e.lastDisconnect?.error?.output?.statusCode === DisconnectReason.loggedOut, 'logged out')
})

process.exit(failed ? 1 : 0)
