// Flows of Genkit, with its own telemetry.
import { openAI } from '@genkit-ai/compat-oai/openai';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { genkit, z } from 'genkit';
import { enableTelemetry } from 'genkit/tracing';

import * as shop from './shop.mjs';

const processor = new BatchSpanProcessor(new OTLPTraceExporter());
await enableTelemetry({ serviceName: 'shop', spanProcessors: [processor] });
const ai = genkit({ plugins: [openAI({ apiKey: 'scripted', baseURL: process.env.OPENAI_BASE_URL, maxRetries: 0 })] });

const tool = (name, schema, run) =>
  ai.defineTool({ name, description: `The tool ${name}.`, inputSchema: z.object(schema), outputSchema: z.string() }, async (input) => {
    try {
      return await run(input);
    } catch (error) {
      // Genkit ends the flow by an exception of a tool, so a program that goes on catches it.
      if (shop.CASE === 'raised_error') throw error;
      return `Error: ${error.message}`;
    }
  });

const order = { order_id: z.string() };
const order_lookup = tool('order_lookup', { ...order, customer_id: z.string() }, shop.orderLookup);
const stock_level = tool('stock_level', { sku: z.string() }, shop.stockLevel);
const refund = tool('refund', { ...order, amount_eur: z.number() }, shop.refund);
const ask_billing_desk = tool('ask_billing_desk', { task: z.string() }, ({ task }) => flows.billing_desk(task));

const desk = (name, tools) =>
  ai.defineFlow(name, async (prompt) => {
    const request = { model: openAI.model(shop.MODELS[name]), system: shop.INSTRUCTIONS, prompt, tools, maxTurns: shop.STEP_LIMIT };
    const done = await (shop.CASE === 'streamed' ? ai.generateStream(request).response : ai.generate(request));
    return done.text;
  });
const flows = {
  order_desk: desk('order_desk', [order_lookup, stock_level]),
  front_desk: desk('front_desk', [ask_billing_desk]),
  billing_desk: desk('billing_desk', [refund]),
  north_desk: desk('north_desk', [order_lookup]),
  south_desk: desk('south_desk', [order_lookup]),
};
const both = ai.defineFlow('both_desks', async () => {
  const answers = {};
  for (const [name, question] of Object.entries(shop.QUESTIONS)) answers[name] = await flows[name](question);
  return answers;
});

const main = () => {
  if (shop.CASE === 'hand_over') return flows.front_desk(shop.question());
  return shop.CASE === 'two_agents' ? both() : flows.order_desk(shop.question());
};

await shop.run(main, () => processor.forceFlush());
process.exit(0);
