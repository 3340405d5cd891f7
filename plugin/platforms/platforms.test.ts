import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Secret } from '../../common/log/redact';
import { EngineErrors } from '../engine/engine-errors';
import { quietLogger } from '../testing/quiet-logger';
import { PlatformStore } from './platform-store';
import { Platforms } from './platforms';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-platforms-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

const lost = EngineErrors.ENGINE_UNAVAILABLE({ engine: 'e', problem: 'ECONNREFUSED' });
const refused = EngineErrors.ENGINE_LOGIN_REFUSED({ engine: 'e', username: 'admin@internal', reason: 'access_denied' });

it('tells the loss and the return of an engine once each, also over restarts in between', () => {
  const life = () => new Platforms(new PlatformStore(folder), quietLogger().logger, () => undefined);
  new PlatformStore(folder).save([
    {
      ...{ platformId: 'p', name: 'one', url: 'https://engine.example/ovirt-engine', username: 'admin@internal' },
      ...{ password: new Secret('planted'), webCaPem: '', internalCaPem: '', engineVersion: '4.5.7' },
    },
  ]);
  const first = life();
  expect([first.note('p', undefined), first.note('p', lost), first.note('p', lost)]).toEqual([false, true, false]);
  const second = life();
  expect([second.note('p', lost), second.note('p', refused)]).toEqual([false, true]);
  const third = life();
  expect([third.note('p', undefined), third.note('p', undefined)]).toEqual([true, false]);
  expect(life().note('p', undefined)).toBe(false);
});
