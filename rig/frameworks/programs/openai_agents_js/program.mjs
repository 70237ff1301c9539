// Agents of the OpenAI Agents SDK for JavaScript, traced by OpenInference.
import { OpenAIAgentsInstrumentation } from '@arizeai/openinference-instrumentation-openai-agents';
import * as agents from '@openai/agents';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { z } from 'zod';

import * as shop from './shop.mjs';

const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
provider.register();
new OpenAIAgentsInstrumentation({ tracerProvider: provider }).manuallyInstrument(agents);

// Without this setting, an exception of a tool goes to the model as a message.
const raising = shop.CASE === 'raised_error' ? { errorFunction: null } : {};
const tool = (name, schema, execute) =>
  agents.tool({ name, description: `The tool ${name}.`, parameters: z.object(schema), execute, ...raising });
const order = { order_id: z.string() };
const order_lookup = tool('order_lookup', { ...order, customer_id: z.string() }, shop.orderLookup);
const stock_level = tool('stock_level', { sku: z.string() }, shop.stockLevel);
const refund = tool('refund', { ...order, amount_eur: z.number() }, shop.refund);

const agent = (name, more) =>
  new agents.Agent({ name, instructions: shop.INSTRUCTIONS, model: shop.MODELS[name], ...more });
const no_secrets = {
  name: 'no_secrets',
  execute: async ({ agentOutput }) => ({ tripwireTriggered: agentOutput.includes('4711'), outputInfo: {} }),
};
const desk = (name) =>
  agent(name, { tools: [order_lookup, stock_level], outputGuardrails: shop.CASE === 'guardrail' ? [no_secrets] : [] });
const billing_desk = agent('billing_desk', { tools: [refund] });
const front_desk = agent('front_desk', { handoffs: [billing_desk] });

async function ask(asked, question) {
  const done = await agents.run(asked, question, {
    maxTurns: shop.STEP_LIMIT,
    signal: shop.cancelled(),
    stream: shop.CASE === 'streamed',
  });
  if (done.completed) await done.completed;
  return done.finalOutput;
}

async function askAll() {
  const answers = {};
  await agents.withTrace('shop', async () => {
    for (const [name, question] of Object.entries(shop.QUESTIONS)) answers[name] = await ask(desk(name), question);
  });
  return answers;
}

const asked = shop.CASE === 'hand_over' ? front_desk : desk('order_desk');
await shop.run(
  () => (shop.CASE === 'two_agents' ? askAll() : ask(asked, shop.question())),
  () => provider.shutdown(),
);
process.exit(0);
