/** Who we are at the engine and what our roles permit, as far as the API shows it. Engine REST API §1.1, §1.2. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { elementsOf, idOf, integerOf, nestedOf, objectOf, textOf } from './mapping';
import type { Version } from './mapping';

export interface EngineInfo {
  readonly name: string;
  readonly version: Version & { readonly build: number };
  readonly fullVersion: string;
  /** Identity of the engine's installation, when it tells one. */
  readonly instanceId: string | undefined;
  readonly userId: string | undefined;
}

export interface GrantedRole {
  readonly name: string;
  readonly administrative: boolean;
  readonly permits: readonly string[];
  /** Undefined: on the whole system. */
  readonly on: string | undefined;
}

const scopes = ['vm', 'disk', 'cluster', 'data_center', 'storage_domain', 'host', 'template', 'vm_pool'] as const;

export class Access {
  constructor(private readonly client: EngineClient) {}

  async info(options: RequestOptions = {}): Promise<EngineInfo> {
    const api = await this.client.read('', options);
    const product = objectOf(api, 'product_info') ?? {};
    const version = objectOf(product, 'version') ?? {};
    const number = (field: string) => integerOf(version, field) ?? 0;
    const parts = { major: number('major'), minor: number('minor'), build: number('build') };
    return {
      name: textOf(product, 'name') ?? '',
      version: parts,
      fullVersion: textOf(version, 'full_version') ?? `${parts.major}.${parts.minor}.${parts.build}`,
      instanceId: textOf(product, 'instance_id'),
      userId: idOf(api, 'effective_user') ?? idOf(api, 'authenticated_user'),
    };
  }

  /** Undefined when the API does not let this user read it; then permits can only be found out by trying. */
  async grantedRoles(userId: string, options: RequestOptions = {}): Promise<readonly GrantedRole[] | undefined> {
    const answer = await this.client.find(`/users/${userId}/permissions`, { ...options, query: { follow: 'role.permits' } });
    if (!answer) return undefined;
    const granted: GrantedRole[] = [];
    for (const permission of elementsOf(answer, 'permission')) {
      const roleId = idOf(permission, 'role');
      if (roleId === undefined) continue;
      let role = objectOf(permission, 'role') ?? {};
      if (nestedOf(role, 'permits', 'permit').length === 0) {
        role = (await this.client.find(`/roles/${roleId}`, { ...options, query: { follow: 'permits' } })) ?? role;
      }
      granted.push({
        name: textOf(role, 'name') ?? roleId,
        administrative: textOf(role, 'administrative') === 'true',
        permits: nestedOf(role, 'permits', 'permit').flatMap((permit) => textOf(permit, 'name')?.toUpperCase() ?? []),
        on: scopes.map((scope) => idOf(permission, scope) && `${scope} ${idOf(permission, scope)}`).find((found) => found !== undefined),
      });
    }
    return granted;
  }
}
