/** Serves SFTP on a port of this machine, without SSH around it: `node run-sftp-server.js PORT`. A process of its own, because tests use its mounts synchronously. */
import { spawn } from 'node:child_process';
import net from 'node:net';

net
  .createServer((socket) => {
    const server = spawn('/usr/lib/openssh/sftp-server', [], { stdio: ['pipe', 'pipe', 'ignore'] });
    socket.pipe(server.stdin);
    server.stdout.pipe(socket);
    for (const end of [socket, server.stdin, server.stdout]) end.on('error', () => socket.destroy());
    socket.on('close', () => server.kill());
  })
  .listen(Number(process.argv[2]), '127.0.0.1', () => process.stdout.write('listening\n'));
