// Agents of the Vercel AI SDK 7, traced by @ai-sdk/otel.
import { createOpenAI } from '@ai-sdk/openai';
import { trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { OpenTelemetry } from '@ai-sdk/otel';
import { generateText, streamText, isStepCount, registerTelemetry, tool } from 'ai';
import { z } from 'zod';

import * as shop from './shop.mjs';

const resource = resourceFromAttributes({
  'service.name': 'shop', 'service.version': '1.4.0', 'deployment.environment.name': 'test',
});
const provider = new NodeTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
provider.register();
registerTelemetry(new OpenTelemetry());
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL });

const order = { order_id: z.string() };
const order_lookup = tool({
  description: 'Look up the state of an order.',
  inputSchema: z.object({ ...order, customer_id: z.string() }),
  execute: shop.orderLookup,
});
const stock_level = tool({
  description: 'Count the pieces of an article that are in stock.',
  inputSchema: z.object({ sku: z.string() }),
  execute: shop.stockLevel,
});
const refund = tool({
  description: 'Refund a part of the price of an order.',
  inputSchema: z.object({ ...order, amount_eur: z.number() }),
  execute: shop.refund,
});
const ask_billing_desk = tool({
  description: 'Ask the agent that can refund.',
  inputSchema: z.object({ task: z.string() }),
  execute: ({ task }) => ask('billing_desk', task, { refund }),
});

async function ask(agent, prompt, tools) {
  const done = await (shop.CASE === 'streamed' ? streamText : generateText)({
    model: openai.chat(shop.MODELS[agent]),
    instructions: shop.INSTRUCTIONS,
    prompt,
    tools,
    maxRetries: 0,
    stopWhen: isStepCount(shop.STEP_LIMIT),
    runtimeContext: { sessionId: shop.SESSION_ID, userId: shop.USER_ID },
    telemetry: { functionId: agent, includeRuntimeContext: { sessionId: true, userId: true } },
  });
  if (shop.CASE === 'streamed') await done.consumeStream();
  return done.text;
}

async function main() {
  if (shop.CASE === 'hand_over') return ask('front_desk', shop.question(), { ask_billing_desk });
  if (shop.CASE !== 'two_agents') return ask('order_desk', shop.question(), { order_lookup, stock_level });
  return trace.getTracer('shop').startActiveSpan('POST /ask', async (span) => {
    const answers = {};
    for (const [agent, prompt] of Object.entries(shop.QUESTIONS)) answers[agent] = await ask(agent, prompt, { order_lookup });
    span.end();
    return answers;
  });
}

await shop.run(main, () => provider.forceFlush());
