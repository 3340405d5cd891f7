import type { ApiObject } from '../http/api-object';
import { idOf, numberOf, textOf } from '../http/api-object';
import { badRequest, incomplete } from '../http/fault';
import { hrefOf } from '../http/href';
import { created, done, list, ok } from '../http/reply';
import { found, param } from '../http/request-context';
import type { Routes } from '../http/route';
import { applySearch, type SearchFields } from '../http/search';
import type { Core } from '../model/core';
import type { EventEntry, EventRefs } from '../model/entities';

/** Reference fields of an event: API name, where it leads, key in {@link EventRefs}. */
const REFERENCES = [
  ['vm', 'vms', 'vmId'],
  ['host', 'hosts', 'hostId'],
  ['storage_domain', 'storagedomains', 'storageDomainId'],
  ['cluster', 'clusters', 'clusterId'],
  ['data_center', 'datacenters', 'dataCenterId'],
  ['template', 'templates', 'templateId'],
  ['user', 'users', 'userId'],
] as const;

const LONGEST_DESCRIPTION = 10_000;

/** `/events`: newest first; `from` is exclusive. Clients may add their own. */
export function registerEvents(routes: Routes, core: Core): void {
  const { db } = core;
  const view = (event: EventEntry): ApiObject => eventView(core, event);
  routes.add('GET', '/events', (context) => {
    const from = context.query.integer('from') ?? 0;
    const events = core.events.list().filter((event) => from <= 0 || event.index > from);
    return list('event', applySearch(context, events, searchFields).map(view));
  });
  routes.add('GET', '/events/:id', (context) => ok('event', view(found(db.events.get(param(context, 'id'))))));
  routes.add('DELETE', '/events/:id', (context) => {
    db.events.delete(found(db.events.get(param(context, 'id'))).id);
    return done();
  });
  routes.add(
    'POST',
    '/events',
    (context) => {
      context.permits('INJECT_EXTERNAL_EVENTS');
      const { body } = context;
      const missing = ['origin', 'severity', 'custom_id', 'description'].filter((field) => body[field] === undefined);
      if (missing.length > 0) {
        throw incomplete('Event', missing, 'add');
      }
      const origin = textOf(body, 'origin') ?? '';
      const customId = numberOf(body, 'custom_id') ?? 0;
      if (origin.trim().toLowerCase() === 'ovirt') {
        throw badRequest('EXTERNAL_EVENT_ILLEGAL_ORIGIN', 'Cannot add External Event. The origin must not be oVirt.');
      }
      if (db.events.find((event) => event.origin === origin && event.customId === customId)) {
        throw badRequest('EXTERNAL_EVENT_DUPLICATE_CUSTOM_ID', `Cannot add External Event. The id ${String(customId)} was used before.`);
      }
      const refs: EventRefs = Object.fromEntries(
        REFERENCES.flatMap(([field, , key]) => {
          const id = idOf(body, field);
          return id === undefined ? [] : [[key, id]];
        }),
      );
      const customData = textOf(body, 'custom_data');
      const event = core.events.logExternal(
        {
          origin,
          customId,
          severity: textOf(body, 'severity') as EventEntry['severity'],
          description: (textOf(body, 'description') ?? '').slice(0, LONGEST_DESCRIPTION),
          floodRate: numberOf(body, 'flood_rate') ?? 0,
          ...(customData === undefined ? {} : { customData }),
        },
        refs,
        context.correlationId,
      );
      return created('event', view(event));
    },
    { body: 'event' },
  );
}

function eventView(core: Core, event: EventEntry): ApiObject {
  return {
    href: hrefOf('events', event.id),
    id: event.id,
    index: event.index,
    code: event.code,
    severity: event.severity,
    time: event.time,
    description: event.description,
    correlation_id: event.correlationId === '' ? undefined : event.correlationId,
    origin: event.origin,
    custom_id: event.customId,
    custom_data: event.customData,
    flood_rate: event.floodRate,
    ...Object.fromEntries(
      REFERENCES.flatMap(([field, collection, key]): [string, ApiObject][] => {
        const id = event.refs[key];
        const name = event.names[field];
        if (id === undefined) {
          return [];
        }
        // An object that is gone leaves its name behind, without an id.
        return exists(core, collection, id)
          ? [[field, { href: hrefOf(collection, id), id, ...(name === undefined ? {} : { name }) }]]
          : name === undefined
            ? []
            : [[field, { name }]];
      }),
    ),
  };
}

function exists(core: Core, collection: (typeof REFERENCES)[number][1], id: string): boolean {
  const { db } = core;
  const collections = {
    vms: db.vms,
    hosts: db.hosts,
    storagedomains: db.storageDomains,
    clusters: db.clusters,
    datacenters: db.dataCenters,
    templates: db.templates,
    users: db.users,
  } as const;
  return collections[collection].has(id);
}

const searchFields: SearchFields<EventEntry> = {
  severity: (event) => event.severity,
  type: (event) => event.code,
  message: (event) => event.description,
  time: (event) => event.time,
  correlation_id: (event) => event.correlationId,
  origin: (event) => event.origin,
  custom_event_id: (event) => event.customId,
  event_vm: (event) => event.names['vm'],
  _event_vm_id: (event) => event.refs.vmId,
  event_storage: (event) => event.names['storage_domain'],
};
