import { z } from 'zod';
import type { Route } from './routes';
import { Problem } from './schemas';

type Json = Record<string, unknown>;

/** The OpenAPI 3.1 document of the routes, made from the schemas that also validate. */
export function openApi(routes: Readonly<Record<string, Route>>, version: string): Json {
  const components: Json = {};
  const problem = schemaOf(Problem, 'output', components);
  const paths: Record<string, Json> = {};
  for (const [operationId, route] of Object.entries(routes)) {
    const path = `/api/v1${route.path.replaceAll(/:(\w+)/g, '{$1}')}`;
    const type = route.stream ? 'text/event-stream' : 'application/json';
    const success: Json = { description: route.reply || route.stream ? 'Success.' : 'Done.' };
    if (route.reply) success['content'] = { [type]: { schema: schemaOf(route.reply, 'output', components) } };
    if (route.stream) success['content'] = { [type]: { schema: { type: 'string' } } };
    (paths[path] ??= {})[route.method.toLowerCase()] = {
      operationId,
      summary: route.summary,
      tags: [route.path.split('/')[1]],
      parameters: [...pathParameters(route.path), ...(route.query ? queryParameters(route.query, components) : [])],
      ...(route.body
        ? { requestBody: { required: true, content: { 'application/json': { schema: schemaOf(route.body, 'input', components) } } } }
        : {}),
      responses: {
        [statusOf(route)]: success,
        default: { description: 'A problem.', content: { 'application/json': { schema: problem } } },
      },
      ...(route.open ? { security: [] } : {}),
    };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tidemark',
      version,
      description: 'Backup and restore of virtual machines on oVirt, RHV and OLVM.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{ login: [] }],
    paths,
    components: { schemas: components, securitySchemes: { login: { type: 'http', scheme: 'bearer' } } },
  };
}

export function statusOf(route: Route): number {
  return route.status ?? (route.reply || route.stream ? 200 : 204);
}

function pathParameters(path: string): Json[] {
  return [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
    description: 'Id, or a name where names are unique.',
  }));
}

function queryParameters(query: z.ZodObject, components: Json): Json[] {
  const schema = schemaOf(query, 'input', components) as { properties?: Record<string, Json>; required?: string[] };
  return Object.entries(schema.properties ?? {}).map(([name, value]) => ({
    name,
    in: 'query',
    required: schema.required?.includes(name) ?? false,
    schema: value,
  }));
}

/** JSON schema of a shape; shapes with an id become components and are referred to. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output', components: Json): Json {
  const suffix = io === 'input' ? 'Input' : '';
  const {
    $schema: _,
    $defs,
    ...own
  } = z.toJSONSchema(schema, { io, unrepresentable: 'any', target: 'draft-2020-12' }) as Json & { $defs?: Record<string, Json> };
  const rewrite = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(rewrite);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [
        key,
        key === '$ref' && typeof inner === 'string'
          ? inner.replace(/^#\/\$defs\/(.*)$/, `#/components/schemas/$1${suffix}`)
          : rewrite(inner),
      ]),
    );
  };
  const add = (id: string, body: Json): Json => {
    const { id: _id, ...rest } = body;
    components[`${id}${suffix}`] ??= rewrite(rest);
    return { $ref: `#/components/schemas/${id}${suffix}` };
  };
  for (const [id, body] of Object.entries($defs ?? {})) add(id, body);
  const id = z.globalRegistry.get(schema)?.id;
  return id === undefined ? (rewrite(own) as Json) : add(id, own);
}
