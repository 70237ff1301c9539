// Agents of Mastra, traced by its own exporter.
import { createOpenAI } from '@ai-sdk/openai';
import { Mastra } from '@mastra/core';
import { Agent } from '@mastra/core/agent';
import { createTool } from '@mastra/core/tools';
import { Observability } from '@mastra/observability';
import { OtelExporter } from '@mastra/otel-exporter';
import { z } from 'zod';

import * as shop from './shop.mjs';

const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL });
const endpoint = `${process.env.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces`;
const exporter = new OtelExporter({ provider: { custom: { endpoint, protocol: 'http/protobuf' } } });

const tool = (id, schema, execute) =>
  createTool({ id, description: `The tool ${id}.`, inputSchema: z.object(schema), execute });
const order = { order_id: z.string() };
const order_lookup = tool('order_lookup', { ...order, customer_id: z.string() }, (input) => shop.orderLookup(input));
const stock_level = tool('stock_level', { sku: z.string() }, (input) => shop.stockLevel(input));
const refund = tool('refund', { ...order, amount_eur: z.number() }, (input) => shop.refund(input));
const ask_billing_desk = tool('ask_billing_desk', { task: z.string() }, ({ task }, { tracingContext }) =>
  ask('billing_desk', task, { tracingContext }));

const agent = (name, tools) =>
  new Agent({ id: name, name, instructions: shop.INSTRUCTIONS, model: openai.chat(shop.MODELS[name]), tools, maxRetries: 0 });
const agents = {
  order_desk: agent('order_desk', { order_lookup, stock_level }),
  front_desk: agent('front_desk', { ask_billing_desk }),
  billing_desk: agent('billing_desk', { refund }),
};
const observability = new Observability({ configs: { otel: { serviceName: 'shop', exporters: [exporter] } } });
const mastra = new Mastra({ agents, observability, logger: false });

async function ask(name, question, options = {}) {
  const agent = mastra.getAgent(name);
  const done = await (shop.CASE === 'streamed' ? agent.stream : agent.generate).call(agent, question, {
    maxSteps: shop.STEP_LIMIT,
    modelSettings: { maxRetries: 0 },
    abortSignal: shop.cancelled(),
    tracingOptions: { metadata: { sessionId: shop.SESSION_ID, userId: shop.USER_ID } },
    ...options,
  });
  if (done.consumeStream) await done.consumeStream();
  if (done.error) throw done.error;
  return done.text;
}

await shop.run(
  () => ask(shop.CASE === 'hand_over' ? 'front_desk' : 'order_desk', shop.question()),
  () => exporter.shutdown(),
);
process.exit(0);
