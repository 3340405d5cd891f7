import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FaultEffect, FaultPlan } from '../control/fault-plan';
import type { EngineClock } from '../model/clock';
import type { EngineLogger } from '../model/core';
import type { User } from '../model/entities';
import type { ApiObject } from './api-object';
import type { Authentication } from './authentication';
import { checkIds } from './body-ids';
import { badSyntax, EngineFault } from './fault';
import { followLinks, type Fetch } from './follow';
import { API_ROOT } from './href';
import { collectionToJson, entityToJson, jsonToEntity } from './json-format';
import type { QueryParameters } from './query-parameters';
import type { Reply } from './reply';
import { permitCheck, type RequestContext } from './request-context';
import { cleanCorrelationId, parseTarget, wantedFormat } from './request-target';
import type { Route, RouteMatch, Routes } from './route';
import { maxRows } from './search';
import { emptySubCollection } from './sub-collections';
import { collectionToXml, entityToXml, xmlToEntity } from './xml-format';

/** One run of the engine as the HTTP side sees it. */
export interface ApiRun {
  readonly routes: Routes;
  readonly authentication: Authentication;
  readonly clock: EngineClock;
  readonly faults: FaultPlan;
  readonly log: EngineLogger;
}

type Format = 'json' | 'xml';

const LARGEST_BODY_BYTES = 64 * 1024 * 1024;

/** Serves `/ovirt-engine/api`: identity, parameters, body, handler, links, rendering and faults. */
export async function serveApi(run: ApiRun, request: IncomingMessage, response: ServerResponse, drop: () => void): Promise<void> {
  const target = parseTarget(request.url ?? '/');
  const format: Format =
    target.query.text('accept') === undefined ? wantedFormat(request.headers.accept) : wantedFormat(target.query.text('accept'));
  const correlationId = cleanCorrelationId(header(request, 'correlation-id') ?? target.query.text('correlation_id')) ?? randomUUID();
  response.setHeader('Correlation-Id', correlationId);
  const path = apiPath(target.path);
  if (path === undefined || !['4', undefined].includes(header(request, 'version'))) {
    response.writeHead(400).end();
    return;
  }
  const method = request.method === 'HEAD' ? 'GET' : (request.method ?? 'GET');
  const match = run.routes.match(method, path) ?? (method === 'GET' ? emptySubCollection(run.routes, path) : undefined);
  const effects = run.faults.forRequest(match ? `${method} ${match.route.pattern}` : `${method} ${path}`, path);
  const user = effects.some((effect) => effect.kind === 'unauthorized') ? undefined : identify(run.authentication, request, response);
  if (!user) {
    unauthorized(response);
    return;
  }
  try {
    await applyBefore(run, effects);
    if (effects.some((effect) => effect.kind === 'drop' && effect.when !== 'after')) {
      drop();
      return;
    }
    const html = effects.find((effect) => effect.kind === 'html503');
    if (html) {
      serviceUnavailable(response);
      return;
    }
    if (!match) {
      const methods = run.routes.methods(path);
      response.writeHead(methods.length > 0 ? 405 : 404, methods.length > 0 ? { Allow: methods.join(', ') } : {}).end();
      return;
    }
    const body = await readBody(request, match.route);
    const context = contextOf(run, request, target.query, match, { method, path, user, correlationId, body });
    const reply = await invoke(match.route, context);
    const followed = method === 'GET' ? await withFollow(run, reply, context) : reply;
    if (effects.some((effect) => effect.kind === 'drop')) {
      drop();
      return;
    }
    send(response, format, followed, request.method === 'HEAD');
  } catch (error) {
    sendError(run, response, format, error, `${method} ${path}`);
  }
}

/** `/ovirt-engine/api[/v4]/vms` to `/vms`; undefined for other API versions. */
function apiPath(path: string): string | undefined {
  const rest = path.slice(API_ROOT.length);
  const version = /^\/v(\d+)(\/.*)?$/.exec(rest);
  if (version) {
    return version[1] === '4' ? (version[2] ?? '/') : undefined;
  }
  return rest === '' ? '/' : rest;
}

async function applyBefore(run: ApiRun, effects: readonly FaultEffect[]): Promise<void> {
  for (const effect of effects) {
    if (effect.kind === 'delay') {
      await run.clock.sleep(effect.ms * run.clock.factor);
    }
    if (effect.kind === 'fault') {
      throw injectedFault(effect);
    }
  }
}

export function injectedFault(effect: FaultEffect & { kind: 'fault' }): EngineFault {
  const details = effect.detail === undefined ? [] : [effect.detail];
  return new EngineFault(effect.status, effect.name ?? 'INJECTED', details, {
    shape: effect.shape ?? 'fault',
    ...(effect.reason === undefined ? {} : { reason: effect.reason }),
  });
}

function identify(authentication: Authentication, request: IncomingMessage, response: ServerResponse): User | undefined {
  const persistent = (header(request, 'prefer') ?? '').includes('persistent-auth');
  const [, scheme = '', credentials = ''] = /^(\S+)\s+(.+)$/.exec(header(request, 'authorization') ?? '') ?? [];
  if (scheme.toLowerCase() === 'bearer') {
    return authentication.resolve(credentials.trim());
  }
  if (scheme.toLowerCase() === 'basic') {
    const text = Buffer.from(credentials, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    const user = authentication.verify(text.slice(0, colon), text.slice(colon + 1));
    if (user && persistent) {
      response.setHeader('Set-Cookie', `JSESSIONID=${authentication.open(user).id}; Path=${API_ROOT}; Secure; HttpOnly`);
    }
    return user;
  }
  const cookie = /(?:^|;\s*)JSESSIONID=([^;]+)/.exec(header(request, 'cookie') ?? '')?.[1];
  return persistent && cookie !== undefined ? authentication.resolve(cookie) : undefined;
}

async function readBody(request: IncomingMessage, route: Route): Promise<ApiObject> {
  const text = await readText(request, LARGEST_BODY_BYTES);
  if (route.body === undefined) {
    return {};
  }
  if (text.trim() === '') {
    throw badSyntax(`The request needs a body of type ${route.body}.`);
  }
  const contentType = (header(request, 'content-type') ?? '').split(';')[0]?.trim().toLowerCase();
  if (contentType !== 'application/json' && contentType !== 'application/xml') {
    throw new EngineFault(415, 'UNSUPPORTED_MEDIA_TYPE', [], { shape: 'empty' });
  }
  const body = contentType === 'application/json' ? jsonToEntity(route.body, text) : xmlToEntity(route.body, text);
  checkIds(route.body, body);
  return body;
}

export async function readText(request: IncomingMessage, largestBytes: number): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > largestBytes) {
      throw new EngineFault(413, 'TOO_LARGE', [], { shape: 'empty' });
    }
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

interface Identity {
  readonly method: string;
  readonly path: string;
  readonly user: User;
  readonly correlationId: string;
  readonly body: ApiObject;
}

function contextOf(run: ApiRun, request: IncomingMessage, query: QueryParameters, match: RouteMatch, identity: Identity): RequestContext {
  const { user } = identity;
  const filterHeader = header(request, 'filter');
  return {
    ...identity,
    params: match.params,
    query,
    userId: user.id,
    allContent: query.flag('all_content') ?? isTrue(header(request, 'all-content')),
    filtered: (query.flag('filter') ?? isTrue(filterHeader)) || !run.authentication.isAdministrator(user),
    permits: permitCheck(user, run.authentication.permitsOf(user)),
  };
}

const isTrue = (text: string | undefined): boolean => ['true', 't', 'yes', 'y', '1'].includes((text ?? '').toLowerCase());

async function invoke(route: Route, context: RequestContext): Promise<Reply> {
  try {
    return await route.handler(context);
  } catch (error) {
    throw error instanceof EngineFault && route.oldAction === true && error.shape === 'fault' ? error.asAction() : error;
  }
}

async function withFollow(run: ApiRun, reply: Reply, context: RequestContext): Promise<Reply> {
  const follow = context.query.text('follow');
  if (reply.kind === 'collection') {
    const entities = reply.entities.slice(0, maxRows(context));
    if (follow === undefined) {
      return { ...reply, entities };
    }
    const followed: ApiObject[] = [];
    for (const entity of entities) {
      followed.push(await followLinks(reply.type, entity, follow, fetcher(run, context)));
    }
    return { ...reply, entities: followed };
  }
  return reply.kind === 'entity' && follow !== undefined
    ? { ...reply, entity: await followLinks(reply.type, reply.entity, follow, fetcher(run, context)) }
    : reply;
}

/** Linked objects are read through their own routes, as the same user, without the search and paging of the outer request. */
function fetcher(run: ApiRun, outer: RequestContext): Fetch {
  return async (path) => {
    const target = parseTarget(path);
    const match = run.routes.match('GET', target.path);
    if (!match) {
      return undefined;
    }
    try {
      const reply = await match.route.handler({
        ...outer,
        method: 'GET',
        path: target.path,
        params: match.params,
        query: target.query,
        body: {},
      });
      return reply.kind === 'entity'
        ? { type: reply.type, entity: reply.entity }
        : reply.kind === 'collection'
          ? { type: reply.type, entities: reply.entities }
          : undefined;
    } catch (error) {
      if (error instanceof EngineFault && error.status === 404) {
        return undefined;
      }
      throw error;
    }
  };
}

function send(response: ServerResponse, format: Format, reply: Reply, headOnly: boolean): void {
  if (reply.kind === 'entity' && reply.location !== undefined) {
    response.setHeader('Location', reply.location);
  }
  const text = format === 'json' ? JSON.stringify(jsonOf(reply)) : xmlOf(reply);
  response.writeHead(reply.status, { 'Content-Type': contentTypeOf(format), 'Content-Length': Buffer.byteLength(text) });
  response.end(headOnly ? undefined : text);
}

const contentTypeOf = (format: Format): string => (format === 'json' ? 'application/json' : 'application/xml;charset=UTF-8');

function jsonOf(reply: Reply): unknown {
  switch (reply.kind) {
    case 'entity':
      return entityToJson(reply.type, reply.entity, true);
    case 'collection':
      return collectionToJson(reply.type, reply.entities);
    case 'action':
      return entityToJson('action', reply.action, false);
  }
}

function xmlOf(reply: Reply): string {
  switch (reply.kind) {
    case 'entity':
      return entityToXml(reply.type, reply.entity);
    case 'collection':
      return collectionToXml(reply.type, reply.entities);
    case 'action':
      return entityToXml('action', reply.action);
  }
}

function sendError(run: ApiRun, response: ServerResponse, format: Format, error: unknown, what: string): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  let fault: EngineFault;
  if (error instanceof EngineFault) {
    fault = error;
  } else {
    run.log.error(`request failed: ${what}`, error);
    fault = new EngineFault(500, 'INTERNAL_ERROR', ['Internal Engine Error']);
  }
  // Not part of the real API: lets the lab's own tests tell refusals apart without parsing prose.
  response.setHeader('X-Lab-Fault', fault.code);
  if (fault.shape === 'empty') {
    response.writeHead(fault.status, { 'Content-Length': 0 }).end();
    return;
  }
  const body = { reason: fault.reason, detail: fault.detail };
  const text =
    fault.shape === 'action'
      ? format === 'json'
        ? JSON.stringify(entityToJson('action', { status: 'failed', fault: body }, false))
        : entityToXml('action', { status: 'failed', fault: body })
      : format === 'json'
        ? JSON.stringify(entityToJson('fault', body, false))
        : entityToXml('fault', body);
  response.writeHead(fault.status, { 'Content-Type': contentTypeOf(format), 'Content-Length': Buffer.byteLength(text) }).end(text);
}

function unauthorized(response: ServerResponse): void {
  const html = '<html><head><title>Error</title></head><body>Unauthorized</body></html>';
  response
    .writeHead(401, { 'Content-Type': 'text/html;charset=UTF-8', 'WWW-Authenticate': 'Basic realm="RESTAPI", Bearer realm="RESTAPI"' })
    .end(html);
}

/** What Apache says while the engine behind it is away. */
export function serviceUnavailable(response: ServerResponse): void {
  const html =
    '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN"><html><head><title>503 Service Unavailable</title></head><body><h1>Service Unavailable</h1></body></html>';
  response.writeHead(503, { 'Content-Type': 'text/html; charset=iso-8859-1' }).end(html);
}

export function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(',') : value;
}
