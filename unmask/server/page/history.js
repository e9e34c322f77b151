// What was drawn here, kept by the browser (IndexedDB) until it is cleared.

const STORE = "pictures";
const MOST = 200; // older ones are let go

/** @returns {Promise<IDBDatabase>} */
function open() {
	return new Promise((resolve, reject) => {
		const asked = indexedDB.open("unmask-studio", 2);
		asked.onupgradeneeded = () => {
			if (asked.result.objectStoreNames.contains(STORE)) asked.result.deleteObjectStore(STORE); // of another form
			asked.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
		};
		asked.onsuccess = () => resolve(asked.result);
		asked.onerror = () => reject(asked.error);
	});
}

/** @template T @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest<T>} act @returns {Promise<T>} */
async function within(mode, act) {
	const database = await open();
	try {
		return await new Promise((resolve, reject) => {
			const transaction = database.transaction(STORE, mode);
			const asked = act(transaction.objectStore(STORE));
			transaction.oncomplete = () => resolve(asked.result);
			transaction.onerror = transaction.onabort = () => reject(transaction.error);
		});
	} finally {
		database.close();
	}
}

/** All that is kept, the newest first. */
export async function all() {
	return (await within("readonly", (store) => store.getAll())).reverse();
}

/** @param {Entry} entry */
export async function keep(entry) {
	entry.id = Number(await within("readwrite", (store) => store.add(entry)));
	await within("readwrite", (store) => store.delete(IDBKeyRange.upperBound(Number(entry.id) - MOST)));
	return entry;
}

/** @param {number} id */
export async function remove(id) {
	await within("readwrite", (store) => store.delete(id));
}

export async function clear() {
	await within("readwrite", (store) => store.clear());
}
