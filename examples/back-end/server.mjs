// The shop's side of a credit, in one file: npm install && DATABASE_URL=postgres://… node server.mjs
//
// POST /orders {"request_id", "item", "accepted": ["TmplPickup"]}  places an order and records its credits, in one transaction
// POST /orders/ID/ready                                           the drink is ready: tells the customer, if there is a credit
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import pg from 'pg'

const APPID = process.env.APPID ?? 'wx0123456789abcdef'
// A client can name any template and say any number of times that the user accepted.
const TEMPLATES = ['TmplOrderPaid', 'TmplPickup']
const BODY_BYTES_MAX = 16 * 1024

const sqlOf = (name) => readFileSync(new URL(name, import.meta.url), 'utf8')
const PLACE_ORDER = sqlOf('place_order.sql')
const FIND_ORDER = sqlOf('find_order.sql')
const RECORD_ACCEPTS = sqlOf('record_accepts.sql')
const SEND_MESSAGE = sqlOf('send_message.sql')

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL })

// Stands for your own login: wx.login → jscode2session → a session of yours. Never take the openid from the body.
const openidOf = (request) => /^session-of-([\w-]+)$/.exec(request.headers.authorization ?? '')?.[1]

/** The order and its credits are stored together or not at all, and once, however often the request comes. */
async function placeOrder(openid, { request_id: requestId, item, accepted }) {
  const credits = TEMPLATES.filter((id) => accepted.includes(id))
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    const { rows: [placed] } = await client.query(PLACE_ORDER, [requestId, openid, item])
    if (placed && credits.length > 0) {
      await client.query(RECORD_ACCEPTS, [APPID, openid, credits, `order-${placed.id}`])
    }
    await client.query('COMMIT')
    return placed ?? (await client.query(FIND_ORDER, [requestId, openid])).rows[0]
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {})
    throw error
  } finally {
    client.release()
  }
}

/** Whether a message is on its way. */
async function tellReady(id) {
  const { rows: [order] } = await pool.query('select openid, item from shop_orders where id = $1', [id])
  if (!order) return undefined
  const message = { character_string1: `SO-${id}`, thing2: [...order.item].slice(0, 20).join(''), phrase3: '待取餐' }
  const tomorrow = new Date(Date.now() + 24 * 3600 * 1000)
  const { rows: [{ arm }] } = await pool.query(SEND_MESSAGE, [
    APPID, order.openid, 'TmplPickup', JSON.stringify(message), `pages/order/detail?id=${id}`, tomorrow,
  ])
  return arm !== null
}

async function answer(request) {
  const url = new URL(request.url, 'http://shop')
  if (request.method !== 'POST') return [404, {}]
  const ready = /^\/orders\/(\d{1,18})\/ready$/.exec(url.pathname)
  if (ready) {
    const told = await tellReady(ready[1])
    return told === undefined ? [404, {}] : [200, { told }]
  }
  if (url.pathname !== '/orders') return [404, {}]
  const openid = openidOf(request)
  if (!openid) return [401, {}]
  const body = await read(request)
  const isOrder = body && typeof body.request_id === 'string' && typeof body.item === 'string' && Array.isArray(body.accepted)
  if (!isOrder) return [400, {}]
  const order = await placeOrder(openid, body)
  return order ? [200, order] : [409, {}]
}

async function read(request) {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) {
    text += chunk
    if (text.length > BODY_BYTES_MAX) return undefined
  }
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const server = createServer(async (request, response) => {
  const [status, body] = await answer(request).catch((error) => {
    console.error(error.message)
    return [500, {}]
  })
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
})
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
