/** The public REST API, route by route, below /api/v1. Handlers, OpenAPI and the audit log are made from this table. */
import { certificateRoutes } from './certificates';
import { inventoryRoutes } from './inventory';
import { moverRoutes } from './movers';
import { maintenanceRoutes } from './maintenance';
import { processRoutes } from './processes';
import { protectionRoutes } from './protection';
import { serverRoutes } from './server';
import { workerRoutes } from './workers';

export type { Route } from './route';

export const routes = {
  ...serverRoutes,
  ...processRoutes,
  ...moverRoutes,
  ...inventoryRoutes,
  ...protectionRoutes,
  ...maintenanceRoutes,
  ...workerRoutes,
  ...certificateRoutes,
} as const;

export type RouteName = keyof typeof routes;
