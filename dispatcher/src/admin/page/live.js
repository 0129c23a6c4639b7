// What the page does beyond reading: shows times in the reader's zone, asks before what cannot be undone, and renews the
// parts marked data-live when the server says that there is something new. Without it, everything can still be read and done.
'use strict';
const dress = root => {
  for (const time of root.querySelectorAll('time[datetime]')) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) time.title = at.toLocaleString();
  }
};
dress(document);
document.addEventListener('submit', event => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
let busy = false;
const renew = async () => {
  if (busy || document.hidden) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: 'text/html' }, redirect: 'error' });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    for (const part of document.querySelectorAll('[data-live]')) {
      const other = fresh.getElementById(part.id);
      if (other && other.outerHTML !== part.outerHTML && !part.contains(document.activeElement)) {
        const now = document.importNode(other, true);
        dress(now);
        part.replaceWith(now);
      }
    }
  } catch { /* The server is away; the stream tells when it is back. */ } finally { busy = false; }
};
if (document.querySelector('[data-live]')) {
  const stream = new EventSource('/live');
  stream.addEventListener('look', renew);
  addEventListener('pagehide', () => stream.close());
}
