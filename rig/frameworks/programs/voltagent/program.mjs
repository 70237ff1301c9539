// Agents of VoltAgent, with its own telemetry.
import { createOpenAI } from '@ai-sdk/openai';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { Agent, VoltAgentObservability, createTool } from '@voltagent/core';
import { z } from 'zod';

import * as shop from './shop.mjs';

const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL });
const processor = new BatchSpanProcessor(new OTLPTraceExporter());
const observability = new VoltAgentObservability({ serviceName: 'shop', spanProcessors: [processor] });

const tool = (name, schema, execute) =>
  createTool({ name, description: `The tool ${name}.`, parameters: z.object(schema), execute });
const order = { order_id: z.string() };
const order_lookup = tool('order_lookup', { ...order, customer_id: z.string() }, shop.orderLookup);
const stock_level = tool('stock_level', { sku: z.string() }, shop.stockLevel);
const refund = tool('refund', { ...order, amount_eur: z.number() }, shop.refund);
const ask_billing_desk = tool('ask_billing_desk', { task: z.string() }, ({ task }, options) =>
  ask('billing_desk', task, [refund], { parentSpan: options.parentToolSpan }));

async function ask(name, question, tools, options = {}) {
  const agent = new Agent({
    name, instructions: shop.INSTRUCTIONS, model: openai.chat(shop.MODELS[name]), tools, observability, maxRetries: 0,
  });
  const done = await (shop.CASE === 'streamed' ? agent.streamText : agent.generateText).call(agent, question, {
    maxSteps: shop.STEP_LIMIT, maxRetries: 0, userId: shop.USER_ID, conversationId: shop.SESSION_ID, ...options,
  });
  const text = await done.text;
  // The span of the agent ends after the stream.
  if (shop.CASE === 'streamed') for await (const _ of done.fullStream) { /* read to the end */ }
  return text;
}

const main = () =>
  shop.CASE === 'hand_over'
    ? ask('front_desk', shop.question(), [ask_billing_desk])
    : ask('order_desk', shop.question(), [order_lookup, stock_level]);

await shop.run(main, () => processor.forceFlush());
process.exit(0);
