import { notFound } from './fault';
import { subCollections } from './links';
import { list } from './reply';
import type { RouteMatch, Routes } from './route';
import { typeOfSegment } from './schema';

/**
 * Sub-collections that every entity of a type links to but nothing in the lab fills: empty, as long as the entity exists.
 * So a client that walks all links meets no 404 that a real engine would not give.
 */
export function emptySubCollection(routes: Routes, path: string): RouteMatch | undefined {
  const slash = path.lastIndexOf('/');
  const segment = path.slice(slash + 1);
  const type = typeOfSegment(segment);
  const parent = routes.match('GET', path.slice(0, slash) || '/');
  if (!parent || !type) {
    return undefined;
  }
  return {
    params: parent.params,
    route: {
      method: 'GET',
      pattern: `${parent.route.pattern}/${segment}`,
      handler: async (context) => {
        const reply = await parent.route.handler(context);
        if (reply.kind !== 'entity' || !subCollections(reply.type).includes(segment)) {
          throw notFound();
        }
        return list(type, []);
      },
    },
  };
}
