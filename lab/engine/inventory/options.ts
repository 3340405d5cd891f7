import { hrefOf } from '../http/href';
import { ok } from '../http/reply';
import { found, param } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';

/** `GET /options/{Name}`: of what a backup client looks at, only the transfer's inactivity time-out is exposed. */
export function registerOptions(routes: Routes, core: Core): void {
  const exposed: Readonly<Record<string, string>> = {
    TransferImageClientInactivityTimeoutInSeconds: String(core.settings.transferInactivitySeconds),
  };
  routes.add('GET', '/options/:name', (context) => {
    const name = param(context, 'name');
    const value = found(exposed[name]);
    return ok('system_option', {
      href: hrefOf('options', name),
      id: name,
      name,
      values: [{ value, version: context.query.text('version') ?? 'general' }],
    });
  });
}
