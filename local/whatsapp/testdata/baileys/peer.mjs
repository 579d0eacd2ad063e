// Baileys at the other end of WhatsUp, told what to do line by line: a line of JSON comes
// in, {do, …}, and one goes out, {ok} or {error}. In what is told, {"$bytes": base64} stands
// for bytes, {"$date": ms} for a time, {"$message": id} and {"$key": id} for a message that
// was sent or seen, and for its key. Bytes come out as base64. The folder STATE keeps the
// links.
import { createCipheriv, createHash, createHmac, randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { decryptPollVote, downloadMediaMessage, generateWAMessageFromContent, jidNormalizedUser, proto, DisconnectReason } from 'baileys'
import { Client, quiet, check } from './client.mjs'

let c, links = 0
const known = id => c.known.get(id) ?? c.seen.filter(([n]) => n === 'messages.upsert').flatMap(([, e]) => e.messages).find(m => m.key.id === id && m.message)

// real puts what is meant in the place of what stands for it.
function real(told) {
	if (Array.isArray(told)) return told.map(real)
	if (told === null || typeof told !== 'object') return told
	if ('$bytes' in told) return Buffer.from(told.$bytes, 'base64')
	if ('$date' in told) return new Date(told.$date)
	if ('$message' in told) return known(told.$message)
	if ('$key' in told) return known(told.$key).key
	return Object.fromEntries(Object.entries(told).map(([name, value]) => [name, real(value)]))
}

const hmac = (key, data) => createHmac('sha256', key).update(data).digest()

// vote is what Baileys has no call for: its own decryption, the other way round.
async function vote({ to, poll, options }) {
	const { key, message } = known(poll)
	const creator = jidNormalizedUser(key.participant || key.remoteJid)
	const voter = jidNormalizedUser(creator.endsWith('@lid') ? c.sock.user.lid : c.sock.user.id)
	const secret = hmac(hmac(Buffer.alloc(32), message.messageContextInfo.messageSecret), Buffer.concat([poll, creator, voter, 'Poll Vote'].map(s => Buffer.from(s)).concat(Buffer.from([1]))))
	const chosen = proto.Message.PollVoteMessage.encode({ selectedOptions: options.map(o => createHash('sha256').update(o).digest()) }).finish()
	const encIv = randomBytes(12)
	const cipher = createCipheriv('aes-256-gcm', secret, encIv).setAAD(Buffer.from(`${poll}\u0000${voter}`))
	const encPayload = Buffer.concat([cipher.update(chosen), cipher.final(), cipher.getAuthTag()])
	return relay({ to, message: { pollUpdateMessage: { pollCreationMessageKey: key, vote: { encPayload, encIv }, senderTimestampMs: Date.now() } } })
}

// relay sends a message of Baileys' own form.
async function relay({ to, message }) {
	const whole = generateWAMessageFromContent(to, message, { userJid: c.sock.user.id })
	c.keep(whole)
	await c.sock.relayMessage(to, whole.message, { messageId: whole.key.id })
	return whole.key.id
}

const does = {
	async open() {
		c = new Client()
		c.known = new Map()
		c.keep = m => { c.known.set(m.key.id, m); c.sent.set(m.key.id, m.message) }
		await c.open(`${process.env.STATE}/link${links++}`)
		return (await c.until('connection.update', e => e.qr, 'a code')).qr
	},
	code: ({ number }) => c.sock.requestPairingCode(number),
	async linked() {
		await c.linked()
		return { lid: jidNormalizedUser(c.sock.user.lid) }
	},
	async send({ to, content, options }) {
		const sent = await c.send(to, content, options ?? {})
		c.keep(sent)
		return sent.key.id
	},
	relay, vote,
	message: ({ id }) => c.message(id),
	async file({ id }) {
		const got = known(id)
		return downloadMediaMessage(got, 'buffer', {}, { logger: quiet, reuploadRequest: c.sock.updateMediaMessage })
	},
	// update waits for what happens to a message; gone: it is taken back.
	async update({ id, text, gone, status }) {
		return c.until('', e => {
			const at = e.key?.id === id && e.update ? e.update : e.messages?.find?.(m => m.key?.id === id)
			return at && (gone && at.message === null || status && at.status >= status || text && at.message?.editedMessage?.message?.conversation === text)
		}, `update of ${id}`).then(() => null)
	},
	// chosen are the options of a vote in a poll of Baileys', by their hashes.
	async chosen({ id, poll }) {
		const { key, message } = await c.message(id)
		const voterJid = jidNormalizedUser(key.participant || key.remoteJid)
		return decryptPollVote(message.pollUpdateMessage.vote, {
			pollCreatorJid: jidNormalizedUser(voterJid.endsWith('@lid') ? c.sock.user.lid : c.sock.user.id),
			pollMsgId: poll, pollEncKey: known(poll).message.messageContextInfo.messageSecret, voterJid
		}).selectedOptions
	},
	read: async ({ id }) => { await c.sock.readMessages([(await c.message(id)).key]) },
	played: async ({ id }) => { const { key } = await c.message(id); await c.sock.sendReceipt(key.remoteJid, key.participant, [id], 'played') },
	async group({ subject, members }) { return (await c.sock.groupCreate(subject, members)).id },
	members: async ({ group }) => (await c.sock.groupMetadata(group)).participants.length,
	async into({ group }) { await c.until('groups.upsert', e => e.id === group, 'the group') },
	async leave() {
		c.sock.end(undefined)
		await c.until('connection.update', e => e.connection === 'close', 'close')
	},
	async back() { await c.again() },
	async logout() { await c.sock.logout() },
	async unlinked() {
		await c.until('connection.update', e => e.connection === 'close' && e.lastDisconnect?.error?.output?.statusCode === DisconnectReason.loggedOut, 'logged out')
	}
}

const plain = (name, value) => value?.type === 'Buffer' ? Buffer.from(value.data).toString('base64') : value instanceof Uint8Array ? Buffer.from(value).toString('base64') : value
for await (const line of createInterface({ input: process.stdin })) {
	const { do: name, ...told } = JSON.parse(line)
	let answer
	try {
		check(does[name], `there is no ${name}`)
		answer = { ok: await does[name](real(told)) ?? null }
	} catch (error) {
		answer = { error: String(error.stack) }
	}
	process.stdout.write(`> ${JSON.stringify(answer, plain)}\n`)
}
process.exit(0)
