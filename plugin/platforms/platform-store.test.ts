import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Secret } from '../../common/log/redact';
import { PlatformStore } from './platform-store';

const platform = {
  platformId: 'p1',
  name: 'lab',
  url: 'https://engine.example/ovirt-engine',
  username: 'admin@internal',
  password: new Secret('planted-password'),
  webCaPem: 'WEB',
  internalCaPem: 'CA',
  engineVersion: '4.5.7',
};
const damaged = expect.objectContaining({ code: 'PLATFORM_STORE_DAMAGED', retry: 'after-operator' });
const unreadable = expect.objectContaining({ code: 'SECRETS_DAMAGED', retry: 'after-operator' });

describe('PlatformStore', () => {
  let folder: string;
  const file = (name: string) => path.join(folder, name);
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-store-'));
  });
  afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));

  it('gives back what it was given, to a second run too, and nothing in the clear', () => {
    expect(new PlatformStore(folder).load()).toEqual([]);
    new PlatformStore(folder).save([platform]);
    const [loaded] = new PlatformStore(folder).load();
    expect(loaded).toMatchObject({ ...platform, password: expect.any(Secret) });
    expect(loaded?.password.reveal()).toBe('planted-password');
    expect(fs.readFileSync(file('platforms.json'), 'utf8')).not.toContain('planted');
    expect(fs.statSync(file('platforms.json')).mode & 0o777).toBe(0o600);
    expect(fs.statSync(file('platforms.key')).mode & 0o777).toBe(0o600);
  });

  it('seals the same password differently each time', () => {
    const store = new PlatformStore(folder);
    const text = () => {
      store.save([platform]);
      return fs.readFileSync(file('platforms.json'), 'utf8');
    };
    expect(text()).not.toBe(text());
  });

  it('says so when key, content or the place of a password do not fit', () => {
    const store = new PlatformStore(folder);
    store.save([platform]);
    const good = fs.readFileSync(file('platforms.json'), 'utf8');
    fs.writeFileSync(file('platforms.json'), good.replace('"p1"', '"p2"'));
    expect(() => store.load()).toThrow(unreadable);
    fs.writeFileSync(file('platforms.json'), good.slice(0, -20));
    expect(() => store.load()).toThrow(damaged);
    fs.writeFileSync(file('platforms.json'), good);
    fs.rmSync(file('platforms.key'));
    expect(() => new PlatformStore(folder).load()).toThrow(unreadable);
    fs.writeFileSync(file('platforms.key'), 'short');
    expect(() => new PlatformStore(folder)).toThrow(unreadable);
  });
});
