// Baileys, as it comes from its makers, as a client of the simulator. The environment
// names the simulator (SIMULATOR, http://host:port), its root key (ROOT, hex), a folder
// (STATE), and the world if it is not the first (WORLD). The control interface moves the
// phones.
import makeWASocket, { useMultiFileAuthState, DisconnectReason } from 'baileys'
import { WA_CERT_DETAILS } from 'baileys/lib/Defaults/index.js'

const simulator = process.env.SIMULATOR
const world = process.env.WORLD

WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(process.env.ROOT, 'hex')

// Downloads name WhatsApp's host whatever the server says: they go to the simulator.
export const outside = globalThis.fetch
globalThis.fetch = (url, options) => {
	const to = new URL(url)
	return outside(`${simulator}${to.pathname}${to.search}`, options)
}

export async function control(method, path, body) {
	const answer = await outside(`${simulator}/control/${path}`, {
		method, headers: { 'Content-Type': 'application/json' }, body: body && JSON.stringify(body)
	})
	const out = await answer.json()
	if (!answer.ok) throw new Error(`${method} ${path}: ${JSON.stringify(out)}`)
	return out
}
console.info = () => {} // libsignal tells of each session there
export const quiet = { level: 'silent', child: () => quiet, trace() {}, debug() {}, info() {}, warn() {}, error() {} }
if (process.env.TALK) for (const level of ['warn', 'error']) quiet[level] = (...all) => console.error(level, ...all)

// A client keeps what it has sent, for those who ask again and for its polls.
export class Client {
	seen = []
	waiting = []
	sent = new Map()

	async open(folder) {
		const { state, saveCreds } = await useMultiFileAuthState(folder)
		this.folder = folder
		this.sock = makeWASocket({
			auth: state, logger: quiet, options: world ? { headers: { 'X-WhatsApp-World': world } } : {}, waWebSocketUrl: `${simulator.replace('http', 'ws')}/ws/chat`,
			shouldSyncHistoryMessage: () => false, getMessage: async key => this.sent.get(key.id)
		})
		this.sock.ev.on('creds.update', saveCreds)
		this.sock.ev.process(events => {
			for (const [name, event] of Object.entries(events)) {
				for (const one of Array.isArray(event) ? event : [event]) this.take(name, one)
			}
		})
	}

	take(name, event) {
		this.seen.push([name, event])
		for (const w of [...this.waiting]) w()
	}

	// until waits for the first event of a name that fits, also one that has come.
	// An empty name stands for every event.
	until(name, fits = () => true, what = name) {
		return new Promise((resolve, reject) => {
			const timer = setTimeout(() => reject(new Error(`nothing came: ${what}; but ${this.seen.slice(-12).map(([n]) => n)}`)), 15000)
			const look = () => {
				const found = this.seen.find(([n, event]) => (!name || n === name) && fits(event))
				if (!found) return
				clearTimeout(timer)
				this.waiting = this.waiting.filter(w => w !== look)
				resolve(found[1])
			}
			this.waiting.push(look)
			look()
		})
	}

	message(id) {
		return this.until('messages.upsert', e => e.messages.some(m => m.key.id === id && m.message), `message ${id}`)
			.then(e => e.messages.find(m => m.key.id === id))
	}

	async send(jid, content, options) {
		const sent = await this.sock.sendMessage(jid, content, options)
		this.sent.set(sent.key.id, sent.message)
		return sent
	}

	// again is a connection after the one before has ended.
	async again() {
		this.seen = []
		await this.open(this.folder)
		await this.until('connection.update', e => e.connection === 'open', 'open')
	}

	async linked() {
		await this.until('connection.update', e => e.connection === 'close' && e.lastDisconnect?.error?.output?.statusCode === DisconnectReason.restartRequired, 'restart')
		await this.again()
	}
}

export let failed = 0
export async function step(name, work) {
	try {
		await work()
		console.log(`ok ${name}`)
	} catch (error) {
		failed++
		console.log(`not ok ${name}: ${error.stack}`)
	}
}
export function check(condition, what) {
	if (!condition) throw new Error(what)
}
// soon waits for what the simulator says to become true.
export async function soon(what, look) {
	for (let tries = 200; tries > 0; tries--) {
		const found = await look()
		if (found) return found
		await new Promise(resolve => setTimeout(resolve, 50))
	}
	throw new Error(`did not happen: ${what}`)
}
