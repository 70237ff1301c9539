// The shop behind the programs in JavaScript, as `shop.py` is it for those in Python: tools that work or really fail, by case.
import fs from 'node:fs';
import net from 'node:net';

export const CASE = process.argv[2];
export const QUESTIONS = JSON.parse(process.env.SHOP_QUESTIONS);
export const MODELS = JSON.parse(process.env.SHOP_MODELS);
export const SESSION_ID = process.env.SHOP_SESSION_ID;
export const USER_ID = process.env.SHOP_USER_ID;
export const STEP_LIMIT = Number(process.env.SHOP_STEP_LIMIT);
export const INSTRUCTIONS = 'You answer questions about orders of a shop. Use the tools.';

export const question = () => Object.values(QUESTIONS)[0];

let hasReachedTool = false;

export async function orderLookup({ order_id, customer_id }) {
  hasReachedTool = true;
  if (CASE === 'cancelled_tool') await new Promise((resolve) => setTimeout(resolve, 60_000).unref());
  return called('order_lookup', { order_id, customer_id }, async () => {
    if (['handled_error', 'raised_error'].includes(CASE) || (['streamed', 'two_agents'].includes(CASE) && order_id === 'A-17')) {
      fs.readFileSync('/var/lib/shop/orders.db');
    }
    if (CASE === 'recovered' && fs.readFileSync(process.env.SHOP_LOG, 'utf8') === '') {
      // The discard port, where nothing listens.
      await new Promise((resolve, reject) => net.connect(9, '127.0.0.1', resolve).on('error', reject));
    }
    if (CASE === 'loop') return { state: 'being synchronised, ask again' };
    return { state: 'shipped', carrier: 'Northpost', arrives: '2026-11-25', for: [customer_id] };
  });
}

// The signal by which the caller of an agent gives up, while the agent waits for its tool, or for its model after it.
export function cancelled() {
  if (!CASE.startsWith('cancelled')) return undefined;
  const controller = new AbortController();
  const waiting = setInterval(() => {
    if (!hasReachedTool) return;
    clearInterval(waiting);
    setTimeout(() => controller.abort(), 1_000);
  }, 50);
  return controller.signal;
}

export const stockLevel = ({ sku }) => called('stock_level', { sku }, async () => ({ pieces: 12, of: [sku] }));

export const refund = ({ order_id, amount_eur }) =>
  called('refund', { order_id, amount_eur }, async () => ({ refund_id: 'R-1', of: [order_id, amount_eur] }));

async function called(tool, args, work) {
  const call = { tool, arguments: args };
  try {
    call.result = JSON.stringify(await work());
    return call.result;
  } catch (error) {
    call.error = { class: error.code ?? error.name, message: error.message };
    throw error;
  } finally {
    fs.appendFileSync(process.env.SHOP_LOG, JSON.stringify(call) + '\n');
  }
}

export async function run(main, flush) {
  const ended = { answer: null, raised: null };
  try {
    ended.answer = (await main()) || null;
  } catch (error) {
    console.error(error);
    ended.raised = { class: error.name, message: error.message };
  }
  await flush();
  console.log('ENDED ' + JSON.stringify(ended));
}
