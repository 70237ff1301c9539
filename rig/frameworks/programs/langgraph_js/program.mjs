// Agents of LangChain.js, which are graphs of LangGraph.js, traced by OpenInference.
import { LangChainInstrumentation } from '@arizeai/openinference-instrumentation-langchain';
import * as callbacks from '@langchain/core/callbacks/manager';
import { ChatOpenAI } from '@langchain/openai';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { trace } from '@opentelemetry/api';
import { createAgent, createMiddleware, tool as makeTool, toolStrategy } from 'langchain';
import { z } from 'zod';

import * as shop from './shop.mjs';

const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
provider.register();
new LangChainInstrumentation({ tracerProvider: provider }).manuallyInstrument(callbacks);

const tool = (name, schema, execute) =>
  makeTool(execute, { name, description: `The tool ${name}.`, schema: z.object(schema) });
const order = { order_id: z.string() };
const order_lookup = tool('order_lookup', { ...order, customer_id: z.string() }, shop.orderLookup);
const stock_level = tool('stock_level', { sku: z.string() }, shop.stockLevel);
const refund = tool('refund', { ...order, amount_eur: z.number() }, shop.refund);
const ask_billing_desk = tool('ask_billing_desk', { task: z.string() }, ({ task }) =>
  ask(agent('billing_desk', [refund]), task));

// Without middleware around tools, their exceptions go to the model as messages.
const raise = createMiddleware({ name: 'raise', wrapToolCall: (request, next) => next(request) });
const answer = z.object({ order_id: z.string(), carrier: z.string(), days: z.number().int() });

const agent = (name, tools) =>
  createAgent({
    name,
    tools,
    model: new ChatOpenAI({ model: shop.MODELS[name], maxRetries: 0, streamUsage: true }),
    systemPrompt: shop.INSTRUCTIONS,
    middleware: shop.CASE === 'raised_error' ? [raise] : [],
    ...(shop.CASE === 'structured' ? { responseFormat: toolStrategy(answer) } : {}),
  });

async function ask(asked, question) {
  const input = { messages: [{ role: 'user', content: question }] };
  const options = {
    recursionLimit: 2 * shop.STEP_LIMIT,
    signal: shop.cancelled(),
    configurable: { thread_id: shop.SESSION_ID },
  };
  let done;
  if (shop.CASE === 'streamed') {
    for await (const state of await asked.stream(input, { ...options, streamMode: 'values' })) done = state;
  } else {
    done = await asked.invoke(input, options);
  }
  return done.structuredResponse ? JSON.stringify(done.structuredResponse) : done.messages.at(-1).content;
}

const desk = (name) => agent(name, [order_lookup, stock_level]);

const askAll = () =>
  trace.getTracer('shop').startActiveSpan('shop', async (span) => {
    const answers = {};
    for (const [name, question] of Object.entries(shop.QUESTIONS)) answers[name] = await ask(desk(name), question);
    span.end();
    return answers;
  });

const asked = shop.CASE === 'hand_over' ? agent('front_desk', [ask_billing_desk]) : desk('order_desk');
await shop.run(
  () => (shop.CASE === 'two_agents' ? askAll() : ask(asked, shop.question())),
  () => provider.shutdown(),
);
process.exit(0);
