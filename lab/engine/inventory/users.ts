import type { ApiObject } from '../http/api-object';
import { hrefOf } from '../http/href';
import { serveReadable } from '../http/readable-resource';
import { list } from '../http/reply';
import { found, param } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { Role, User } from '../model/entities';

/** Accounts, roles and their permission groups. */
export function registerUsers(routes: Routes, core: Core): void {
  const { db } = core;
  serveReadable(routes, {
    path: '/users',
    type: 'user',
    all: () => db.users.list(),
    one: (id) => db.users.get(id),
    view: userView,
    search: { name: (user) => loginName(user), usrname: (user) => user.userName, id: (user) => user.id },
  });
  serveReadable(routes, { path: '/roles', type: 'role', all: () => db.roles.list(), one: (id) => db.roles.get(id), view: roleView });
  routes.add('GET', '/roles/:id/permits', (context) => {
    const role = found(db.roles.get(param(context, 'id')));
    return list(
      'permit',
      role.permits.map((name, index) => ({
        href: hrefOf('roles', role.id, 'permits', String(index)),
        id: String(index),
        name: name.toLowerCase(),
        administrative: role.administrative,
      })),
    );
  });
}

const loginName = (user: User): string => user.userName.slice(0, user.userName.lastIndexOf('@'));

const userView = (user: User): ApiObject => ({
  href: hrefOf('users', user.id),
  id: user.id,
  name: loginName(user),
  user_name: user.userName,
  principal: loginName(user),
  namespace: '*',
  domain: { name: user.userName.slice(user.userName.lastIndexOf('@') + 1) },
});

const roleView = (role: Role): ApiObject => ({
  href: hrefOf('roles', role.id),
  id: role.id,
  name: role.name,
  description: role.description,
  administrative: role.administrative,
  mutable: false,
});
