/** A machine is made a gateway by the two commands of docs/operations/gateways.md, under a real systemd. */
import { SystemdMachine, whyNoMachine } from '../certificates/systemd-machine';
import { eventually } from '../harness/child';

const notHere = whyNoMachine();
if (notHere !== undefined) console.warn(`setting a gateway up under systemd is not tested: ${notHere}`);

(notHere === undefined ? describe : describe.skip)('mover enrol --install-unit', () => {
  let machine: SystemdMachine;
  const tidemark = (...words: string[]) => machine.must('tidemark', ...words);

  beforeAll(async () => {
    machine = await SystemdMachine.boot();
    await machine.must('systemd-sysusers');
    const listen = { address: '127.0.0.1' };
    const server = { dataFolder: '/var/lib/tidemark/server', listen, addresses: ['127.0.0.1', 'localhost'] };
    machine.write('/etc/tidemark/server.json', JSON.stringify(server));
    await machine.must('systemctl', 'start', 'tidemark-server.service');
    const { dataFolder } = server;
    await eventually('login', 240_000, async () => {
      const login = ['login', '--server', 'https://127.0.0.1:8443', '--ca', `${dataFolder}/ca.pem`];
      return (await machine.run('tidemark', ...login, '--password-file', `${dataFolder}/initial-admin-password`)).code === 0 || undefined;
    });
  }, 600_000);
  afterAll(async () => {
    await (machine as SystemdMachine | undefined)?.[Symbol.asyncDispose]();
  }, 240_000);

  it('makes the machine a gateway that is there after a restart', async () => {
    const { token, moverId } = JSON.parse(await tidemark('gateway', 'enrol', '--json')) as { token: string; moverId: string };
    machine.write('/root/token', `${token}\n`);
    const setUp = ['--server', '127.0.0.1', '--token-file', '/root/token', '--address', '127.0.0.1', '--gateway', '--install-unit'];
    expect(await tidemark('mover', 'enrol', ...setUp)).toContain('tidemark-mover.service is installed and started');
    const connected = () =>
      eventually('the gateway', 240_000, async () => {
        const found = JSON.parse(await tidemark('gateway', 'show', moverId, '--json')) as { state: string; gateway: boolean };
        return (found.state === 'connected' && found.gateway) || undefined;
      });
    await connected();
    expect((await machine.must('systemctl', 'is-enabled', 'tidemark-mover.service')).trim()).toBe('enabled');
    // It runs as nobody special, and reads a token that only it can read.
    const { pid } = await machine.unit('tidemark-mover.service');
    expect((await machine.must('stat', '--format=%U', `/proc/${pid}`)).trim()).toBe('tidemark');
    expect((await machine.must('stat', '--format=%U %a', '/etc/tidemark/mover-token')).trim()).toBe('tidemark 600');
    await machine.must('systemctl', 'restart', 'tidemark-mover.service');
    await connected();
  }, 600_000);
});
