// Baileys at the other end of WhatsUp: it is linked to a phone, and files go from the API
// to it and from it to the API, byte for byte. The environment also names the API (API,
// KEY), the instance (INSTANCE, NUMBER), and the phone that it is linked to (OWN). The
// folder STATE has note.ogg, a voice note, and played.ogg, as WhatsUp sends it on.
import { createHash, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { downloadMediaMessage } from 'baileys'
import { Client, control, outside, quiet, step, check, soon, failed } from './client.mjs'

const { API, KEY, INSTANCE, NUMBER, OWN, STATE, WORLD } = process.env
const hash = bytes => createHash('sha256').update(bytes).digest('hex')

async function api(method, path, body) {
	const answer = await outside(`${API}${path}`, {
		method, headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' }, body: body && JSON.stringify(body)
	})
	const out = await answer.json()
	if (!answer.ok) throw new Error(`${method} ${path}: ${JSON.stringify(out)}`)
	return out
}

const note = await readFile(`${STATE}/note.ogg`), played = await readFile(`${STATE}/played.ogg`), picture = await readFile(`${STATE}/picture.jpg`)
const letter = randomBytes(150_000)
const c = new Client()

await step('link', async () => {
	await c.open(`${STATE}/peer`)
	const { qr } = await c.until('connection.update', e => e.qr, 'a code')
	await control('POST', 'scan', { world: WORLD, qr, phone_number: OWN })
	await c.linked()
})

for (const [name, body, given, gets, kind] of [
	['image', { type: 'image', caption: 'look' }, picture, picture, 'imageMessage'],
	['document', { type: 'document', filename: 'letter.bin' }, letter, letter, 'documentMessage'],
	['voice', { type: 'audio', voice: true }, note, played, 'audioMessage']
]) {
	await step(`${name} to Baileys`, async () => {
		const { message_id: id } = await api('POST', `/v1/instances/${INSTANCE}/messages`, { to: OWN, body: { ...body, media_base64: given.toString('base64') } })
		const got = await c.message(id)
		check(got.message[kind], `got ${Object.keys(got.message)}`)
		const file = await downloadMediaMessage(got, 'buffer', {}, { logger: quiet, reuploadRequest: c.sock.updateMediaMessage })
		check(file.equals(gets), `${file.length} bytes of ${gets.length}`)
	})
}

for (const [name, content, file] of [
	['image', { image: picture, caption: 'look' }, picture],
	['document', { document: letter, mimetype: 'application/octet-stream', fileName: 'letter.bin' }, letter],
	['voice', { audio: note, ptt: true, mimetype: 'audio/ogg; codecs=opus', seconds: 3 }, note]
]) {
	await step(`${name} from Baileys`, async () => {
		const sent = await c.send(`${NUMBER}@s.whatsapp.net`, content)
		const media = await soon(`${name} ${sent.key.id} is ready`, async () => {
			const log = await api('GET', `/v1/event-log?instance_id=${INSTANCE}&events=message.media_ready,message.media_failed`)
			return log.data.find(e => e.data.message_id === sent.key.id)?.data.media
		})
		check(media.status === 'ready' && media.sha256 === hash(file), JSON.stringify(media))
		const bytes = Buffer.from(await (await outside(media.url)).arrayBuffer())
		check(bytes.equals(file), `${bytes.length} bytes of ${file.length}`)
	})
}

process.exit(failed ? 1 : 0)
